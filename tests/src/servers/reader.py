"""A server of HTTP/1.1 that reads in the ways servers read: a thread a connection, bodies as the path says."""

import array
import fcntl
import os
import select
import socket
import sys
import termios
import threading

HOST, PORT, NAME = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def waiting(stream):
    """What the kernel says that waits to be read; nothing, although it is readable, is the end."""
    select.select([stream], [], [])
    count = array.array("i", [0])
    fcntl.ioctl(stream, termios.FIONREAD, count)
    return count[0]


def by_count(stream, left):
    """As Qt does: as many bytes as are said to wait."""
    while left:
        count = waiting(stream)
        got = stream.recv(min(count, left)) if count else b""
        if not got:
            return False
        left -= len(got)
    return True


def whole(stream, left):
    """One read that waits for all."""
    return not left or len(stream.recv(left, socket.MSG_WAITALL)) == left


def spliced(stream, left):
    """As proxies do: through a pipe, never through memory."""
    out, into = os.pipe()
    null = os.open("/dev/null", os.O_WRONLY)
    try:
        while left:
            moved = os.splice(stream.fileno(), into, min(left, 65536))
            if not moved:
                return False
            left -= moved
            while moved:
                moved -= os.splice(out, null, moved)
        return True
    finally:
        for opened in (out, into, null):
            os.close(opened)


def edges(stream, left):
    """As nginx does: told once of what came, it reads on only as long as the kernel says that more waits."""
    poll = select.epoll()
    poll.register(stream, select.EPOLLIN | select.EPOLLET)
    stream.setblocking(False)
    try:
        while left:
            poll.poll()
            while left:
                try:
                    got = stream.recv(min(left, 1024))
                except BlockingIOError:
                    break
                if not got:
                    return False
                left -= len(got)
                count = array.array("i", [0])
                fcntl.ioctl(stream, termios.FIONREAD, count)
                if len(got) == 1024 and not count[0]:
                    break
        return True
    finally:
        poll.close()
        stream.setblocking(True)


READERS = {"/count": by_count, "/whole": whole, "/splice": spliced, "/edges": edges}


def serve(stream):
    with stream:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = stream.recv(1)
                if not byte:
                    return
                head += byte
            path = head.split()[1].decode()
            lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            length = int(lengths[0].split(b":")[1]) if lengths else 0
            if path in READERS and not READERS[path](stream, length):
                return
            body = b"%s %d\n" % (NAME.encode(), length)
            stream.sendall(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


listener = socket.create_server((HOST, PORT), backlog=128)
while True:
    accepted = listener.accept()[0]
    threading.Thread(target=serve, args=(accepted,), daemon=True).start()
