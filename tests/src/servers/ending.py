# A server, as there are many in Python: the first word is what it does on SIGTERM.
import os, re, signal, socket, sys, threading, time
mode, busy = sys.argv[1], []
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 8080)); s.listen(64)
def answer(c):
    head = c.recv(65536).decode()
    found = re.search(r'ms=(\d+)', head)
    time.sleep(int(found.group(1)) / 1000 if found else 0)
    c.sendall(b'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nok\n'); c.close()
    if c in busy: busy.remove(c)
def told(*a):
    print('told', mode, flush=True)
    os._exit(0)
def finish(*a):
    s.close()
    def wait():
        while busy: time.sleep(.01)
        told()
    threading.Thread(target=wait).start()
def serve():
    while True:
        try: c, _ = s.accept()
        except OSError: time.sleep(1000)
        busy.append(c); threading.Thread(target=answer, args=(c,), daemon=True).start()
if mode == 'cuts': signal.signal(signal.SIGTERM, told)
if mode == 'finishes': signal.signal(signal.SIGTERM, finish)
if mode == 'leaves':                     # a master that does not wait for its worker
    if os.fork() == 0: signal.signal(signal.SIGTERM, finish)
    else:
        signal.signal(signal.SIGTERM, told)
        while True: time.sleep(1000)
if mode == 'forks':                      # a process for each connection, as sshd has them
    signal.signal(signal.SIGTERM, told); signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        c, _ = s.accept()
        if os.fork() == 0: s.close(); answer(c); os._exit(0)
        c.close()
serve()
