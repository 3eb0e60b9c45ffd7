/* The program's entry: a role's process when the supervisor has started it so, else the command line. */
#include "ctl/ctl.h"
#include "role/role_main.h"

int main(int argc, char **argv)
{
    if (argc >= 3 && strcmp(argv[1], "--role") == 0)
        return role_main(argc - 2, argv + 2);
    return ctl_main(argc, argv);
}
