/* Starts a program for each connection, as systemd does for a socket with Accept=yes:
 * execing PORT PROGRAM
 *
 * The program has the connection as its standard input, output and error. SIGCHLD's
 * handler reaps all dead children.
 */

#define _GNU_SOURCE
#include "listen.h"
#include <fcntl.h>
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

static void become(int fd, char **command)
{
    signal(SIGPIPE, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    setsid();
    for (int standard = 0; standard < 3; standard++)
        if (dup2(fd, standard) < 0)
            _exit(127);
    close_range(3, ~0u, 0);
    execv(command[0], command);
    _exit(127);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = reap, .sa_flags = SA_RESTART};
    if (argc != 3)
        return 2;
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
