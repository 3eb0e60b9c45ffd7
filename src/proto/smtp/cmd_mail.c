/* MAIL and RCPT: the envelope. Relay control is here: what goes to authd is the canonical address, and only its verdict counts. */
#include "proto/smtp/session_priv.h"

/* "FROM:" or "TO:" in any case, spaces behind it allowed as many senders write them. */
static bool keyword_cut(struct slice *args, struct slice keyword)
{
    if (!slice_istarts(*args, keyword))
        return false;
    *args = slice_from(*args, keyword.n);
    while (args->n > 0 && args->p[0] == ' ')
        *args = slice_from(*args, 1);
    return true;
}

static int bad_params(struct smtp_session *s, int rc, const struct err *err)
{
    if (rc == -ENOMEM)
        return smtp_reply(s, 451, "4.3.0", "No memory; try again");
    return smtp_reply(s, rc == -EOPNOTSUPP ? 555 : 501, "5.5.4", "Not understood: %s", err->text);
}

/* --- MAIL --- */

/* 1: go on; otherwise answered. */
static int mail_limits(struct smtp_session *s)
{
    if (s->unlimited)
        return 1;
    if (s->messages >= s->set->max_messages)
        return smtp_reply(s, 421, "4.7.0", "%llu messages are enough for one connection; connect again", (unsigned long long)s->messages);
    if (s->backend->message_take(s->arg, &s->client, s->set))
        return 1;
    smtp_trail_abuse(s, "max_message_rate_per_client", s->set->max_message_rate_per_client);
    return smtp_reply(s, 450, "4.7.0", "Too many messages from your network; try again in a minute");
}

static int mail_check(struct smtp_session *s, const struct smtp_tx *tx)
{
    struct smtp_answer a;
    if (tx->params.body == SMTP_BODY_BINARYMIME)
        return smtp_reply(s, 555, "5.6.1", "BODY=BINARYMIME is not offered; encode the message and send BODY=8BITMIME");
    if (tx->sender.utf8 && !tx->params.smtputf8)
        return smtp_reply(s, 550, "5.6.7", "The sender's address is not ASCII: say SMTPUTF8 behind it (RFC 6531)");
    if (tx->params.size <= s->set->max_message_size)
        return 1;
    smtp_answer_set(&a, 552, "5.3.4", "The message is too big: %llu octets of at most %llu", (unsigned long long)tx->params.size,
                    (unsigned long long)s->set->max_message_size);
    smtp_trail_message_refused(s, &a);
    return smtp_reply_answer(s, &a);
}

static int mail_parse(struct smtp_session *s, struct smtp_tx *tx, struct slice args)
{
    struct err err;
    int rc = smtp_path_parse(&args, SMTP_PATH_REVERSE, &tx->arena, &tx->sender, &err);
    if (rc == -ENOMEM)
        return smtp_reply(s, 451, "4.3.0", "No memory; try again");
    if (rc != 0)
        return smtp_reply(s, rc == ERR_LIMIT ? 550 : 501, "5.1.7", "Bad sender address: %s", err.text);
    rc = smtp_mail_params_parse(args, &tx->arena, &tx->params, &err);
    return rc != 0 ? bad_params(s, rc, &err) : mail_check(s, tx);
}

int smtp_cmd_mail(struct smtp_session *s, struct slice args)
{
    struct smtp_tx *tx;
    if (!keyword_cut(&args, SLICE("FROM:")))
        return smtp_reply(s, 501, "5.5.4", "Syntax: MAIL FROM:<address>");
    int rc = mail_limits(s);
    if (rc <= 0)
        return rc;
    if (smtp_tx_new(s, &tx) != 0)
        return smtp_reply(s, 451, "4.3.0", "No memory; try again");
    rc = mail_parse(s, tx, args);
    if (rc <= 0) {
        smtp_tx_end(s);
        return rc;
    }
    s->state = SMTP_MAIL;
    return smtp_reply(s, 250, "2.1.0", "Sender taken");
}

/* --- RCPT: what authd's verdict means for the sender --- */

static const struct verdict_row {
    unsigned code;
    const char *enhanced, *before, *after;
    bool domain; /* the text names the domain, not the address */
} verdicts[] = {
    [RCPT_OK] = {250, "2.1.5", "", " taken", false},
    [RCPT_NOT_OURS] = {550, "5.7.1", "We do not relay: ", " is not one of our domains", true},
    [RCPT_UNKNOWN] = {550, "5.1.1", "There is no mailbox ", "; check the address", false},
    [RCPT_BAD_ADDRESS] = {553, "5.1.3", "", " is not an address that can exist here", false},
    [RCPT_DISABLED] = {550, "5.2.1", "The mailbox ", " takes no mail", false},
    [RCPT_FULL] = {452, "4.2.2", "The mailbox ", " is full; try again later", false},
    [RCPT_TOO_BIG] = {552, "5.2.3", "The message is bigger than the mailbox ", " can ever hold", false},
    [RCPT_TEMPORARY] = {451, "4.3.0", "", " cannot be checked at the moment; try again later", false},
};

static void verdict_answer(uint64_t verdict, const struct smtp_path *path, struct smtp_answer *a)
{
    const struct verdict_row *v = &verdicts[verdict < sizeof(verdicts) / sizeof(*verdicts) ? verdict : RCPT_TEMPORARY];
    struct slice what = slice_head(v->domain && path->domain.n > 0 ? path->domain : path->address, 300);
    smtp_answer_set(a, v->code, v->enhanced, "%s%.*s%s", v->before, SLICE_ARG(what), v->after);
}

/* --- RCPT: the recipients of the transaction --- */

static void *grow(struct arena *a, void *old, size_t n, size_t *cap, size_t size)
{
    if (n < *cap)
        return old;
    size_t more = *cap != 0 ? *cap * 2 : 4;
    void *p = arena_array(a, more, size);
    if (p != NULL && n != 0)
        memcpy(p, old, n * size);
    if (p != NULL)
        *cap = more;
    return p;
}

static size_t target_find(const struct smtp_tx *tx, uint64_t account)
{
    size_t i = 0;
    while (i < tx->n_targets && tx->targets[i].account != account)
        i++;
    return i;
}

static int target_add(struct smtp_tx *tx, const struct smtp_rcpt *r, const struct m_rcpt_target *t)
{
    struct buf b;
    struct smtp_target *all = grow(&tx->arena, tx->targets, tx->n_targets, &tx->cap_targets, sizeof(*all));
    if (all == NULL)
        return -ENOMEM;
    tx->targets = all;
    buf_init(&b, 2048); /* of m_accept_rcpt */
    smtp_trace_rcpt(tx, r, t->address, &b);
    struct smtp_target *new = &all[tx->n_targets];
    *new = (struct smtp_target){.account = t->account, .grant = t->grant, .address = t->address,
                                .prefix = arena_copy(&tx->arena, buf_slice(&b))};
    int rc = buf_ok(&b) && new->prefix.p != NULL ? 0 : -ENOMEM;
    buf_done(&b);
    if (rc != 0)
        return rc;
    tx->rcpt_bytes += 8 + 8 + 9 + 4 + new->prefix.n;
    tx->event_bytes += smtp_trail_rcpt_size(t->address);
    tx->n_targets++;
    return 0;
}

/* All targets, or none. ERR_LIMIT: they do not fit into one message. */
static int targets_add(struct smtp_session *s, struct smtp_rcpt *r, const struct m_rcpt_check_reply *reply)
{
    struct smtp_tx *tx = s->tx;
    size_t n_before = tx->n_targets, rcpt_bytes = tx->rcpt_bytes, event_bytes = tx->event_bytes;
    int rc = 0;
    r->targets = arena_array(&tx->arena, reply->targets.n, sizeof(*r->targets));
    if (r->targets == NULL)
        rc = -ENOMEM;
    for (size_t i = 0; i < reply->targets.n && rc == 0; i++) {
        const struct m_rcpt_target *t = RECORD_ITEM(reply->targets, m_rcpt_target, i);
        size_t at = target_find(tx, t->account);
        if (at == tx->n_targets)
            rc = target_add(tx, r, t);
        r->targets[i] = at;
    }
    if (rc == 0 && (tx->rcpt_bytes > SMTP_RCPT_BYTES_MAX || tx->event_bytes > SMTP_EVENT_BYTES_MAX || tx->n_targets > IPC_RCPT_MAX))
        rc = ERR_LIMIT;
    if (rc != 0) {
        tx->n_targets = n_before;
        tx->rcpt_bytes = rcpt_bytes;
        tx->event_bytes = event_bytes;
    }
    r->n_targets = reply->targets.n;
    return rc;
}

/* Grants that are not used: of accounts that have the message already, or all of a recipient that was not taken after all. */
static void grants_spare(struct smtp_session *s, const struct m_rcpt_check_reply *reply, bool all)
{
    for (size_t i = 0; i < reply->targets.n; i++) {
        const struct m_rcpt_target *t = RECORD_ITEM(reply->targets, m_rcpt_target, i);
        size_t at = all ? s->tx->n_targets : target_find(s->tx, t->account);
        if (at == s->tx->n_targets || s->tx->targets[at].grant != t->grant)
            s->backend->grant_drop(s->arg, t->grant);
    }
}

static int rcpt_add(struct smtp_session *s, const struct smtp_path *path, const struct smtp_rcpt_params *params,
                    const struct m_rcpt_check_reply *reply)
{
    struct smtp_tx *tx = s->tx;
    struct smtp_rcpt *all = grow(&tx->arena, tx->rcpts, tx->n_rcpts, &tx->cap_rcpts, sizeof(*all));
    if (all == NULL)
        return -ENOMEM;
    tx->rcpts = all;
    struct smtp_rcpt *r = &all[tx->n_rcpts];
    *r = (struct smtp_rcpt){.given = path->address, .canonical = reply->canonical, .orcpt_type = params->orcpt_type, .orcpt = params->orcpt};
    int rc = targets_add(s, r, reply);
    if (rc == 0)
        tx->n_rcpts++;
    return rc;
}

static int rcpt_taken(struct smtp_session *s, const struct smtp_path *path, const struct smtp_rcpt_params *params,
                      const struct m_rcpt_check_reply *reply, const struct smtp_answer *taken)
{
    int rc = rcpt_add(s, path, params, reply);
    grants_spare(s, reply, rc != 0);
    if (rc == 0) {
        s->state = SMTP_RCPT;
        return smtp_reply_answer(s, taken);
    }
    if (rc == ERR_LIMIT && s->tx->n_rcpts == 0)
        return smtp_reply(s, 550, "5.3.5", "%.*s has more members than can be served", SLICE_ARG(slice_head(path->address, 300)));
    if (rc == ERR_LIMIT)
        return smtp_reply(s, 452, "4.5.3", "Too many recipients for one message; send the rest in another");
    return smtp_reply(s, 451, "4.3.0", "No memory; try again");
}

static int rcpt_ask(struct smtp_session *s, const struct smtp_path *path, const struct smtp_rcpt_params *params)
{
    struct smtp_tx *tx = s->tx;
    struct m_rcpt_check rq = {.conn = s->conn, .message = tx->message, .address = path->address, .size = tx->params.size};
    struct m_rcpt_check_reply reply = {.canonical = SLICE_EMPTY};
    struct smtp_answer a;
    int rc = s->backend->rcpt_check(s->arg, &tx->arena, &rq, &reply);
    uint64_t verdict = rc != 0 || (reply.verdict == RCPT_OK && reply.targets.n == 0) ? RCPT_TEMPORARY : reply.verdict;
    verdict_answer(verdict, path, &a);
    if (verdict == RCPT_OK)
        return rcpt_taken(s, path, params, &reply, &a);
    if (rc == 0)
        grants_spare(s, &reply, true);
    smtp_trail_rcpt(s, verdict == RCPT_NOT_OURS, path->address, &a);
    return smtp_reply_answer(s, &a);
}

/* Recorded like any refusal: among what is malformed are old ways round relay control. */
static int rcpt_malformed(struct smtp_session *s, struct slice args, int rc, const struct err *err)
{
    struct smtp_answer a;
    smtp_answer_set(&a, rc == ERR_LIMIT ? 553 : 501, "5.1.3", "Bad recipient address: %s", err->text);
    smtp_trail_rcpt(s, false, args, &a);
    return smtp_reply_answer(s, &a);
}

int smtp_cmd_rcpt(struct smtp_session *s, struct slice args)
{
    struct smtp_tx *tx = s->tx;
    struct smtp_path path;
    struct smtp_rcpt_params params;
    struct err err;
    if (!keyword_cut(&args, SLICE("TO:")))
        return smtp_reply(s, 501, "5.5.4", "Syntax: RCPT TO:<address>");
    if (tx->n_rcpts >= s->set->max_recipients)
        return smtp_reply(s, 452, "4.5.3", "Too many recipients for one message; send the rest in another");
    int rc = smtp_path_parse(&args, SMTP_PATH_FORWARD, &tx->arena, &path, &err);
    if (rc == -ENOMEM)
        return smtp_reply(s, 451, "4.3.0", "No memory; try again");
    if (rc != 0)
        return rcpt_malformed(s, args, rc, &err);
    rc = smtp_rcpt_params_parse(args, &tx->arena, &params, &err);
    if (rc != 0)
        return bad_params(s, rc, &err);
    if (path.utf8 && !tx->params.smtputf8)
        return smtp_reply(s, 553, "5.6.7", "The address is not ASCII: the sender must say SMTPUTF8 in MAIL (RFC 6531)");
    return rcpt_ask(s, &path, &params);
}
