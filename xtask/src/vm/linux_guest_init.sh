#!/bin/busybox sh
# PID 1 of Linux in a guest. It makes the exits of real life: timers, interrupts between vCPUs, the console, and idle time.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
echo "guest: up"
round=0
while [ $round -lt 20 ]; do
    # Two processes on two vCPUs, which wake each other.
    /bin/busybox dd if=/dev/zero bs=64k count=4 2>/dev/null | /bin/busybox md5sum >/dev/null
    /bin/busybox usleep 20000
    round=$((round + 1))
done
echo "guest: idle"
# Both vCPUs wait.
/bin/busybox sleep 6
echo "guest: down"
/bin/busybox poweroff -f
