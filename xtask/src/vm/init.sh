#!/bin/sh
# PID 1 of the disposable VM. /vm/settings contains the modules to load, whether to mount tracefs, and how the host gets the
# output; /vm/command is the command to run. stdout and stderr of this script are the kernel's console, which the host writes
# to a log file.

. /vm/settings
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-linux}
# For the live tests: a sign that they run in the VM, and the path of the collector.
export KVM_TEST_VM=1 KVM_COLLECTOR=/bin/kvm-collector

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
[ "$TRACEFS" = no ] || mount -t tracefs tracefs /sys/kernel/tracing

for module in $MODULES; do
    modprobe "$module" || echo "vm: cannot load $module"
done

cd /root
if [ -n "$PORT_WRITER" ]; then
    {
        echo "$OUTPUT_START"
        sh /vm/command </dev/null
        # Also if the last line has no end. The host stops the VM when it has read this line.
        echo "$OUTPUT_END$?"
    } 2>&1 | "$PORT_WRITER"
    poweroff -f
fi

# The driver creates the ports, or the terminal, after modprobe has returned.
if [ -f /vm/command ]; then output=/dev/vport0p1; else output=/dev/hvc0; fi
tries=0
until [ -c $output ] && [ -c /dev/vport0p2 ] || [ $tries = 1000 ]; do
    usleep 10000
    tries=$((tries + 1))
done

if [ -f /vm/command ]; then
    sh /vm/command </dev/null >$output 2>&1
else
    # A session leader that opens a terminal gets it as its controlling terminal, so Ctrl-C and job control work.
    setsid sh -c 'exec sh <>/dev/hvc0 >&0 2>&1'
fi
echo $? >/dev/vport0p2
poweroff -f
