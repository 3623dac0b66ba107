#!/bin/busybox sh
# PID 1 of Linux in a guest that boots on one of its two CPUs. It makes the exits of real life: timers, the console, idle time, and
# interrupts between vCPUs.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
echo "guest: up"
round=0
while [ $round -lt 20 ]; do
    # Two processes that wake each other.
    /bin/busybox dd if=/dev/zero bs=64k count=4 2>/dev/null | /bin/busybox md5sum >/dev/null
    /bin/busybox usleep 20000
    round=$((round + 1))
done
echo "guest: idle"
/bin/busybox sleep 6
# The first CPU starts the second one by interrupts.
echo "guest: starts CPU 1"
echo 1 > /sys/devices/system/cpu/cpu1/online
echo "guest: down"
/bin/busybox poweroff -f
