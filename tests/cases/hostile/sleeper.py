# uses no CPU time and never returns
import time
def add(a, b):
    while True: time.sleep(60)
