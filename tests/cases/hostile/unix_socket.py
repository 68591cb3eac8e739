# a pair of datagram sockets reaches any address; so does a stream that connects
import socket
def attempt(action):
    try: action()
    except OSError: pass
attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"hit", "\0am_canary_dgram"))
attempt(lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"hit", "/tmp/automerge-canary/sock"))
attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
attempt(lambda: socket.create_server(("127.0.0.1", 18799)))
def add(a, b): return 0
