/*
 * book_client: clients that make the system calls of those in UNIX Network Programming,
 * volume 1, chapters 5, 6 and 8. Its tests start it with lines on standard input.
 *
 *     book_client MODE HOST PORT
 *
 * MODE is str_cli (a line out, a line back), str_cli_select (both directions at once;
 * the end of the input becomes our FIN, and we read to the server's), dg_cli (sendto and
 * recvfrom, which drops an answer from another address), dg_cli_connect (the same over a
 * connected socket), or dg_cli_big (one datagram of 65507 bytes, the longest of IPv4).
 * Exit code: 0; 1 after a failed call; 2 if the server closed too early.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_BYTES = 4096, LONGEST_DATAGRAM = 65507 };

static void require(int done, const char *call)
{
    if (!done) {
        perror(call);
        exit(1);
    }
}

static void closed_too_early(void)
{
    fputs("the server closed too early\n", stderr);
    exit(2);
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t taken = write(fd, data, size);
        require(taken > 0, "write");
        data += taken;
        size -= (size_t)taken;
    }
}

static void str_cli(int fd)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, stdin) != NULL) {
        write_all(fd, line, strlen(line));
        for (char c = 0; c != '\n';) {
            ssize_t got = read(fd, &c, 1);
            require(got >= 0, "read");
            if (got == 0)
                closed_too_early();
            putchar(c);
        }
    }
}

static void str_cli_select(int fd)
{
    char piece[LINE_BYTES];
    int input_ended = 0;
    for (;;) {
        fd_set readable;
        FD_ZERO(&readable);
        if (!input_ended)
            FD_SET(STDIN_FILENO, &readable);
        FD_SET(fd, &readable);
        require(select(fd + 1, &readable, NULL, NULL, NULL) > 0, "select");
        if (FD_ISSET(fd, &readable)) {
            ssize_t got = read(fd, piece, sizeof piece);
            require(got >= 0, "read");
            if (got == 0 && input_ended)
                return;
            if (got == 0)
                closed_too_early();
            write_all(STDOUT_FILENO, piece, (size_t)got);
        }
        if (FD_ISSET(STDIN_FILENO, &readable)) {
            ssize_t got = read(STDIN_FILENO, piece, sizeof piece);
            require(got >= 0, "read");
            if (got > 0) {
                write_all(fd, piece, (size_t)got);
            } else {
                input_ended = 1;
                require(shutdown(fd, SHUT_WR) == 0, "shutdown");
            }
        }
    }
}

static void dg_cli(int fd, const struct sockaddr_in *server)
{
    char line[LINE_BYTES];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct sockaddr_in from;
        socklen_t length = sizeof from;
        ssize_t sent = sendto(fd, line, strlen(line), 0, (const void *)server, sizeof *server);
        require(sent >= 0, "sendto");
        ssize_t got = recvfrom(fd, line, sizeof line, 0, (void *)&from, &length);
        require(got >= 0, "recvfrom");
        if (from.sin_port == server->sin_port && from.sin_addr.s_addr == server->sin_addr.s_addr)
            fwrite(line, 1, (size_t)got, stdout);
        else
            printf("dropped an answer from %s\n", inet_ntoa(from.sin_addr));
    }
}

static void dg_cli_connect(int fd, const struct sockaddr_in *server)
{
    char line[LINE_BYTES];
    require(connect(fd, (const void *)server, sizeof *server) == 0, "connect");
    while (fgets(line, sizeof line, stdin) != NULL) {
        require(write(fd, line, strlen(line)) >= 0, "write");
        ssize_t got = read(fd, line, sizeof line);
        require(got >= 0, "read");
        fwrite(line, 1, (size_t)got, stdout);
    }
}

static void dg_cli_big(int fd, const struct sockaddr_in *server)
{
    static char data[LONGEST_DATAGRAM];
    ssize_t sent = sendto(fd, data, sizeof data, 0, (const void *)server, sizeof *server);
    require(sent >= 0, "sendto");
    ssize_t got = recvfrom(fd, data, sizeof data, 0, NULL, NULL);
    require(got >= 0, "recvfrom");
    printf("received %zd bytes\n", got);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: book_client MODE HOST PORT\n", stderr);
        return 1;
    }
    const char *mode = argv[1];
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    require(inet_pton(AF_INET, argv[2], &server.sin_addr) == 1, "inet_pton");
    int streams = strncmp(mode, "str_", 4) == 0;
    int fd = socket(AF_INET, streams ? SOCK_STREAM : SOCK_DGRAM, 0);
    require(fd >= 0, "socket");
    if (streams)
        require(connect(fd, (const void *)&server, sizeof server) == 0, "connect");
    if (strcmp(mode, "str_cli") == 0)
        str_cli(fd);
    else if (strcmp(mode, "str_cli_select") == 0)
        str_cli_select(fd);
    else if (strcmp(mode, "dg_cli") == 0)
        dg_cli(fd, &server);
    else if (strcmp(mode, "dg_cli_connect") == 0)
        dg_cli_connect(fd, &server);
    else if (strcmp(mode, "dg_cli_big") == 0)
        dg_cli_big(fd, &server);
    else
        return 1;
    return 0;
}
