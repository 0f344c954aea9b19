/* Starts a program for each connection, as systemd does for a socket with Accept=yes:
 * execing PORT PROGRAM [user NAME | nice NUMBER]
 *
 * The program has the connection as its standard input, output and error. SIGCHLD's
 * handler reaps all dead children.
 */

#define _GNU_SOURCE
#include "listen.h"
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>

static void reap(int number)
{
    int before = errno;
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
    errno = before;
}

/* What the program's process has that the server's has not: systemd's User= and Nice=. */
static struct passwd *user;
static int nicer;

static void become(int fd, char **command)
{
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    setsid();
    for (int standard = 0; standard < 3; standard++)
        if (dup2(fd, standard) < 0)
            _exit(127);
    close_range(3, ~0u, 0);
    if (nicer && setpriority(PRIO_PROCESS, 0, nicer) != 0)
        _exit(127);
    if (user && (setgroups(1, &user->pw_gid) != 0 || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0))
        _exit(127);
    execv(command[0], command);
    _exit(127);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = reap, .sa_flags = SA_RESTART};
    if (argc != 3 && argc != 5)
        return 2;
    if (argc == 5 && strcmp(argv[3], "nice") == 0)
        nicer = atoi(argv[4]);
    else if (argc == 5 && (user = getpwnam(argv[4])) == NULL)
        die(argv[4]);
    argv[3] = NULL;
    sigaction(SIGCHLD, &action, NULL);
    int listener = listen_on(argv[1], SOCK_CLOEXEC);
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        pid_t child = fork();
        if (child < 0)
            perror("fork");
        if (child == 0)
            become(fd, argv + 2);
        close(fd);
    }
}
