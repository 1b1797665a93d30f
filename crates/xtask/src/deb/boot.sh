# Boots the Debian in $1 with its own systemd as process 1 of new namespaces, and cgroups below $2 in every hierarchy.
# Run by `unshare --fork --pid --mount --uts --ipc --net --cgroup`; all of it is gone when process 1 is.
set -eu
tree=$1 name=$2
mount --make-rprivate /
mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    while read -r controller _ _ enabled; do
        case $controller in \#*) continue ;; esac
        if [ "$enabled" = 1 ] && [ -d "/sys/fs/cgroup/$controller/$name" ]; then
            mkdir "sys/fs/cgroup/$controller"
            mount -t cgroup -o "$controller" cgroup "sys/fs/cgroup/$controller"
        fi
    done </proc/cgroups
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
hostname "$name"
ip link set lo up
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init --log-target=console --show-status=0
