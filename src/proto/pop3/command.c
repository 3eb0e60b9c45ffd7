/* POP3's command table and what follows from it: see command.h. */
#include "proto/pop3/command.h"

#define ROW(name, states, shape, capability, condition, rfc) {#name, (states), (shape), (capability), (condition), (rfc)},
const struct pop3_command pop3_commands[POP3_N_COMMANDS] = {POP3_COMMANDS(ROW)};

#define TRAIT(capability, rfc) {(capability), (rfc)},
const struct pop3_trait pop3_traits[] = {POP3_TRAITS(TRAIT)};
const size_t pop3_traits_n = sizeof(pop3_traits) / sizeof(pop3_traits[0]);

static const struct {
    unsigned least, most;
} shapes[] = {
    [POP3_NONE] = {0, 0}, [POP3_OPTIONAL] = {0, 1}, [POP3_ONE] = {1, 1}, [POP3_TWO] = {2, 2}, [POP3_UP_TO_TWO] = {0, 2},
};

static bool find_command(struct slice keyword, enum pop3_command_id *ret)
{
    for (unsigned i = 0; i < POP3_N_COMMANDS; i++) {
        if (slice_ieq(keyword, slice_str(pop3_commands[i].name))) {
            *ret = (enum pop3_command_id)i;
            return true;
        }
    }
    return false;
}

static bool parse_args(const struct pop3_command *c, const struct pop3_line *line, struct pop3_request *rq)
{
    struct slice rest = line->rest;
    if (c->shape == POP3_REST) {
        rq->args[0] = rest;
        rq->n_args = line->has_rest && rest.n > 0 ? 1 : 0;
        return rq->n_args == 1;
    }
    while (rq->n_args < 2 && pop3_next_arg(&rest, &rq->args[rq->n_args]))
        rq->n_args++;
    struct slice more;
    return rq->n_args >= shapes[c->shape].least && rq->n_args <= shapes[c->shape].most && !pop3_next_arg(&rest, &more);
}

enum pop3_parse_result pop3_parse_request(struct slice text, enum pop3_state state, struct pop3_request *ret)
{
    struct pop3_line line;
    struct pop3_request rq = {.args = {SLICE_EMPTY, SLICE_EMPTY}};
    if (pop3_parse_line(text, &line) != 0)
        return POP3_BAD_LINE;
    if (!find_command(line.keyword, &rq.id))
        return POP3_UNKNOWN;
    const struct pop3_command *c = &pop3_commands[rq.id];
    if ((c->states & (unsigned)state) == 0)
        return POP3_WRONG_STATE;
    if (!parse_args(c, &line, &rq))
        return POP3_BAD_ARGS;
    *ret = rq;
    return POP3_PARSED;
}

static bool is_told(const struct pop3_command *c, enum pop3_state state, bool password, bool stls)
{
    switch (c->condition) {
    case POP3_IF_ALWAYS:
        return true;
    case POP3_IF_PASSWORD: /* RFC 2449 6.2, 6.3: announced in both states */
        return password || state == POP3_TRANSACTION;
    case POP3_IF_STLS:
        return stls;
    case POP3_IF_NEVER:
        break;
    }
    return false;
}

int pop3_print_capabilities(struct stream *s, enum pop3_state state, bool password, bool stls)
{
    int rc = 0;
    for (unsigned i = 0; i < POP3_N_COMMANDS && rc == 0; i++)
        if (is_told(&pop3_commands[i], state, password, stls))
            rc = stream_printf(s, "%s\r\n", pop3_commands[i].capability);
    for (size_t i = 0; i < pop3_traits_n && rc == 0; i++)
        rc = stream_printf(s, "%s\r\n", pop3_traits[i].capability);
    return rc;
}
