"""The event model: many connections served from one epoll loop."""
