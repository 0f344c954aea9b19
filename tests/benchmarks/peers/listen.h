/* What the C peers share: arguments and listeners. */

#ifndef LISTEN_H
#define LISTEN_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, LINGER_S = 2, LINE_BYTES = 64, MAX_FILES = 65536 };

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* A listener on 127.0.0.1. Linux copies TCP_NODELAY to every accepted socket (tcp(7)). */
static inline int listen_on(const char *port, int flags)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&here, sizeof here) != 0 || listen(fd, BACKLOG) != 0)
        die("listen");
    return fd;
}

/* As many open files as may be, 65,536 at most: who has a table by descriptor makes it as large, and where the hard limit is a billion that would be 8 GB. */
static inline void raise_files(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < MAX_FILES ? files.rlim_max : MAX_FILES;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* The line of daytime (RFC 867) in the form of ctime(3). */
static inline size_t daytime_line(char line[LINE_BYTES])
{
    time_t now = time(NULL);
    struct tm moment;
    return strftime(line, LINE_BYTES, "%a %b %e %H:%M:%S %Y\r\n", localtime_r(&now, &moment));
}

/* The four bytes of time (RFC 868): seconds since 1900. */
static inline size_t time_bytes(char line[LINE_BYTES])
{
    uint32_t number = htonl((uint32_t)time(NULL) + 2208988800u);
    memcpy(line, &number, sizeof number);
    return sizeof number;
}

#endif
