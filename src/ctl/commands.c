/* All commands of the program, in the order of the overview. A new file cmd_<name>.c adds its table here. */
#include "ctl/ctl.h"

extern const struct ctl_command ctl_service_commands[], ctl_setup_commands[], ctl_config_commands[], ctl_demo_commands[],
    ctl_describe_commands[], ctl_store_commands[], ctl_account_commands[], ctl_alias_commands[], ctl_domain_commands[],
    ctl_trail_commands[];

const struct ctl_command *const ctl_command_groups[] = {
    ctl_setup_commands,
    ctl_service_commands,
    ctl_config_commands,
    ctl_account_commands,
    ctl_alias_commands,
    ctl_domain_commands,
    ctl_trail_commands,
    ctl_store_commands,
    ctl_demo_commands,
    ctl_describe_commands,
    NULL,
};
