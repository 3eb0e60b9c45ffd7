#include "ipc/messages.h"

RECORD_DEFINE(m_key_item);
RECORD_DEFINE(m_ticket_key);
RECORD_DEFINE(m_rcpt_target);
RECORD_DEFINE(m_accept_rcpt);
RECORD_DEFINE(m_accept_result);
RECORD_DEFINE(m_message_uid);
RECORD_DEFINE(m_message_place);
RECORD_DEFINE(m_outbox_item);
RECORD_DEFINE(m_ctl_account);
RECORD_DEFINE(m_ctl_alias);
RECORD_DEFINE(m_ctl_domain);
RECORD_DEFINE(m_ctl_process);
#define DEFINE_CALL(number, name, from, to) \
    RECORD_DEFINE(m_##name);                \
    RECORD_DEFINE(m_##name##_reply);
#define DEFINE_NOTE(number, name, from, to) RECORD_DEFINE(m_##name);
IPC_MESSAGES(DEFINE_CALL, DEFINE_NOTE)

#define ROW_CALL(number, name, from, to) {IPC_##name, #name, (from), (to), &record_m_##name, &record_m_##name##_reply},
#define ROW_NOTE(number, name, from, to) {IPC_##name, #name, (from), (to), &record_m_##name, NULL},
const struct ipc_message ipc_messages[] = {IPC_MESSAGES(ROW_CALL, ROW_NOTE)};
const size_t ipc_messages_n = sizeof(ipc_messages) / sizeof(ipc_messages[0]);

const struct ipc_message *ipc_message_find(unsigned number)
{
    for (size_t i = 0; i < ipc_messages_n; i++)
        if ((unsigned)ipc_messages[i].number == number)
            return &ipc_messages[i];
    return NULL;
}
