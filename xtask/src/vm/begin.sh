# In the root the tests see: mounts what a host has, lets xtask do the rest, and switches the machine off. This shell
# stays process 1 and takes in orphans meanwhile.
. /run/vm/settings
export PATH="$PATH_OF_TESTS" HOME=/root LANG=C.UTF-8 TMPDIR=/run/tmp
mkdir -p "$TMPDIR" /dev/shm /dev/pts
chmod 1777 "$TMPDIR"
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As systemd does: every cgroup below the root is measured and can be limited.
for controller in cpu io memory pids; do
    echo "+$controller" > /sys/fs/cgroup/cgroup.subtree_control || echo "vm: no controller $controller"
done
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up
hostname vm
cd "$PROJECT" || echo "vm: the project is not there"
"$XTASK" vm-guest /run/vm/shared || echo "vm: did not run to its end"
sync
# qemu was told to end instead of a restart.
echo b > /proc/sysrq-trigger
while :; do read -r _ < /dev/tty0 || :; done
