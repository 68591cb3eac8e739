# threads that are no daemons, and a return
import threading, time
def work():
    while True:
        try: time.sleep(0.01)
        except BaseException: pass
for _ in range(200):
    try: threading.Thread(target=work).start()
    except RuntimeError: break
def add(a, b): return 0
