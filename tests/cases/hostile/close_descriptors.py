# closes everything and stays
import os, time
def add(a, b):
    os.closerange(0, 1024)
    time.sleep(3600)
