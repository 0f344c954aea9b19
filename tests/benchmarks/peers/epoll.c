/* Echo and daytime, or time, in one process on a level-triggered epoll loop:
 * epoll ECHO_PORT DAYTIME_PORT [daytime|corked|time]
 *
 * It works as unpd does. There is one read buffer for all, and a reply that the socket takes at
 * once is not copied. Reading stops while much output is pending. The peer's FIN is answered with
 * the pending output and our FIN. A connection that we end gets its line, our FIN, and up to
 * LINGER_S for the peer's. Corked, line and FIN are one segment.
 */

#define _GNU_SOURCE
#include "listen.h"
#include <stdbool.h>
#include <sys/epoll.h>

/* In bulk, over the rate with reads of 512 KiB: 0.80 with 128 KiB, 0.90 with 256 KiB, 1.05 with 1 MiB. */
enum { READ_BYTES = 512 * 1024, HIGH_WATER = 256 * 1024, LOW_WATER = 64 * 1024, MAX_EVENTS = 512, BATCH = 16 };

struct connection {
    int fd;
    uint32_t watched;
    bool peer_finished;
    char *out;
    size_t out_begin, out_end, out_room;
    double linger_at; /* 0: not lingering */
    struct connection *older, *newer;
};

static int queue, echo_fd, daytime_fd;
static bool tells_time;
static struct connection **by_fd;
static struct connection lingering = {.older = &lingering, .newer = &lingering}; /* the ring's head: its newer neighbour is the oldest, because all linger for the same time */
static char buffer[READ_BYTES];

static double now_s(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void watch(struct connection *c, uint32_t events)
{
    if (c->watched == events)
        return;
    struct epoll_event wanted = {.events = events, .data.fd = c->fd};
    if (epoll_ctl(queue, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &wanted) != 0)
        die("epoll_ctl");
    c->watched = events;
}

static void end(struct connection *c)
{
    if (c->linger_at > 0) {
        c->older->newer = c->newer;
        c->newer->older = c->older;
    }
    by_fd[c->fd] = NULL;
    close(c->fd);
    free(c->out);
    free(c);
}

static size_t pending(const struct connection *c)
{
    return c->out_end - c->out_begin;
}

static void keep(struct connection *c, const char *data, size_t count)
{
    if (c->out_end + count > c->out_room) {
        memmove(c->out, c->out + c->out_begin, pending(c));
        c->out_end -= c->out_begin;
        c->out_begin = 0;
    }
    if (c->out_end + count > c->out_room) {
        c->out_room = c->out_end + count;
        c->out = realloc(c->out, c->out_room);
        if (c->out == NULL)
            die("realloc");
    }
    memcpy(c->out + c->out_end, data, count);
    c->out_end += count;
}

/* Send as much as the socket takes; -1 if the connection broke. */
static ssize_t try_send(struct connection *c, const char *data, size_t count)
{
    ssize_t sent = send(c->fd, data, count, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return -1;
    return sent < 0 ? 0 : sent;
}

static void reply(struct connection *c, size_t count)
{
    ssize_t sent = pending(c) ? 0 : try_send(c, buffer, count);
    if (sent < 0) {
        end(c);
        return;
    }
    if ((size_t)sent < count) {
        keep(c, buffer + sent, count - (size_t)sent);
        watch(c, pending(c) >= HIGH_WATER ? EPOLLOUT : EPOLLIN | EPOLLOUT);
    }
}

static void take(struct connection *c)
{
    ssize_t count = recv(c->fd, buffer, sizeof buffer, 0);
    if (count > 0) {
        if (c->linger_at == 0)
            reply(c, (size_t)count);
    } else if (count < 0) {
        if (errno != EAGAIN)
            end(c);
    } else if (pending(c)) {
        c->peer_finished = true;
        watch(c, EPOLLOUT);
    } else
        end(c);
}

/* Send what is pending; false if the connection broke. */
static bool flush(struct connection *c)
{
    ssize_t sent = try_send(c, c->out + c->out_begin, pending(c));
    if (sent < 0) {
        end(c);
        return false;
    }
    c->out_begin += (size_t)sent;
    if (pending(c) == 0) {
        free(c->out);
        c->out = NULL;
        c->out_begin = c->out_end = c->out_room = 0;
        if (c->peer_finished) {
            end(c);
            return false;
        }
        watch(c, EPOLLIN);
    } else if (!c->peer_finished && pending(c) <= LOW_WATER)
        watch(c, EPOLLIN | EPOLLOUT);
    return true;
}

static void serve(struct connection *c, uint32_t events)
{
    if ((events & EPOLLOUT) && pending(c) && !flush(c))
        return;
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
        if (c->watched & EPOLLIN)
            take(c);
        else if (!(events & EPOLLOUT))
            end(c);
    }
}

static void linger(struct connection *c)
{
    c->linger_at = now_s() + LINGER_S;
    c->older = lingering.older;
    c->newer = &lingering;
    c->older->newer = c->newer->older = c;
}

static void greet(struct connection *c)
{
    char line[LINE_BYTES];
    size_t count = tells_time ? time_bytes(line) : daytime_line(line);
    /* A new socket has room for a line. */
    if (send(c->fd, line, count, MSG_NOSIGNAL) != (ssize_t)count || shutdown(c->fd, SHUT_WR) != 0)
        end(c);
    else
        linger(c);
}

/* Avoids accepts that find no client, each of which creates a socket before it looks:
 * connect-echo-close costs 0.93 of the time, daytime 0.91. */
static int queued(int listener)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    return getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? (int)info.tcpi_unacked : 1;
}

static void accept_from(int listener)
{
    int waiting = queued(listener);
    for (int i = 0; i < BATCH && i < waiting; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct connection *c = calloc(1, sizeof *c);
        if (c == NULL)
            die("calloc");
        c->fd = fd;
        by_fd[fd] = c;
        watch(c, EPOLLIN);
        if (listener == daytime_fd)
            greet(c);
    }
}

static int end_lingering(void)
{
    struct connection *oldest;
    if ((oldest = lingering.newer) == &lingering)
        return -1;
    double now = now_s();
    while ((oldest = lingering.newer) != &lingering && oldest->linger_at <= now)
        end(oldest);
    return oldest == &lingering ? -1 : (int)((oldest->linger_at - now) * 1000) + 1;
}

int main(int argc, char **argv)
{
    struct epoll_event events[MAX_EVENTS];
    struct rlimit files;
    if (argc != 3 && argc != 4)
        return 2;
    raise_files();
    tells_time = argc == 4 && strcmp(argv[3], "time") == 0;
    getrlimit(RLIMIT_NOFILE, &files);
    by_fd = calloc(files.rlim_cur, sizeof *by_fd);
    queue = epoll_create1(EPOLL_CLOEXEC);
    if (by_fd == NULL || queue < 0)
        die("start");
    echo_fd = listen_on(argv[1], SOCK_NONBLOCK);
    daytime_fd = listen_on(argv[2], SOCK_NONBLOCK);
    /* Every connection inherits it from its listener. */
    if (argc == 4 && strcmp(argv[3], "corked") == 0 && setsockopt(daytime_fd, IPPROTO_TCP, TCP_CORK, &(int){1}, sizeof(int)) != 0)
        die("setsockopt");
    for (int i = 0; i < 2; i++) {
        struct epoll_event wanted = {.events = EPOLLIN, .data.fd = i ? daytime_fd : echo_fd};
        if (epoll_ctl(queue, EPOLL_CTL_ADD, wanted.data.fd, &wanted) != 0)
            die("epoll_ctl");
    }
    for (;;) {
        int count = epoll_wait(queue, events, MAX_EVENTS, end_lingering());
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == echo_fd || fd == daytime_fd)
                accept_from(fd);
            else if (by_fd[fd] != NULL)
                serve(by_fd[fd], events[i].events);
        }
    }
}
