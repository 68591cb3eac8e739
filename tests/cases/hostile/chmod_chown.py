# changes modes, owners, times and links of files outside
import os
p = "/tmp/automerge-canary/"
for action in (lambda: os.chmod(p + "victimfile", 0o777), lambda: os.utime(p + "victimfile", (0, 0)),
               lambda: os.truncate(p + "victimfile", 0), lambda: os.unlink(p + "victimfile"),
               lambda: os.rename(p + "victimfile", p + "drop/moved"), lambda: os.link(p + "secret644", p + "drop/linked"),
               lambda: os.symlink("/", p + "drop/link"), lambda: os.mkdir(p + "drop/folder"), lambda: os.mkfifo(p + "drop/fifo"),
               lambda: os.rmdir(p + "victim"), lambda: os.setxattr(p + "victimfile", "user.x", b"x"),
               lambda: os.open(p + "victimfile", os.O_WRONLY | os.O_TRUNC)):
    try: action(); print("LEAK changed a file")
    except OSError: pass
def add(a, b): return 0
