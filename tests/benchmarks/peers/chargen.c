/* Chargen (RFC 864) in one process on a level-triggered epoll loop: chargen PORT
 *
 * It works as unpd does: a connection gets the lines when its socket has room, a piece a turn, from
 * a buffer that is made once; what a client sends is thrown away.
 */

#define _GNU_SOURCE
#include "listen.h"
#include <sys/epoll.h>

/* A whole number of periods. */
enum { PRINTING = 95, LINE = 72, PERIOD = PRINTING * (LINE + 2), PIECE = 9 * PERIOD, MAX_EVENTS = 512 };

struct connection {
    int fd;
    size_t at;
};

static int queue;
static char lines[2 * PIECE], thrown_away[4096];

static void fill(void)
{
    for (size_t i = 0; i < sizeof lines; i++) {
        size_t line = i / (LINE + 2) % PRINTING, column = i % (LINE + 2);
        lines[i] = column < LINE ? (char)(' ' + (line + column) % PRINTING) : column == LINE ? '\r' : '\n';
    }
}

static void accept_from(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct connection *c = calloc(1, sizeof *c);
    if (fd < 0 || c == NULL)
        die("accept");
    *c = (struct connection){.fd = fd};
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(queue, EPOLL_CTL_ADD, fd, &wanted) != 0)
        die("epoll_ctl");
}

static void serve(struct connection *c, uint32_t events)
{
    ssize_t count = 1;
    if (events & EPOLLOUT) {
        count = send(c->fd, lines + c->at, PIECE, MSG_NOSIGNAL);
        if (count > 0)
            c->at = (c->at + (size_t)count) % PIECE;
    }
    if (events & ~(uint32_t)EPOLLOUT)
        count = recv(c->fd, thrown_away, sizeof thrown_away, 0);
    if (count == 0 || (count < 0 && errno != EAGAIN)) {
        close(c->fd);
        free(c);
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[MAX_EVENTS];
    if (argc != 2)
        return 2;
    fill();
    int listener = listen_on(argv[1], SOCK_NONBLOCK);
    queue = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL};
    if (queue < 0 || epoll_ctl(queue, EPOLL_CTL_ADD, listener, &wanted) != 0)
        die("epoll_ctl");
    for (;;) {
        int count = epoll_wait(queue, events, MAX_EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                accept_from(listener);
            else
                serve(events[i].data.ptr, events[i].events);
        }
    }
}
