# The guest's first process in its root. In front of this stand SHARES (tag, mode and path of each further folder of the host's),
# PROGRAMS (paths of what is to be in PATH),
# WIRE (its address on the wire, or nothing), ROCE (the address of Soft-RoCE where there is no wire, or nothing) and MODE (`serve`, `shell`).
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/busybox HOME=/root LANG=C.UTF-8 TERM=${TERM:-linux}
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/mounts /etc/mtab
echo root:x:0:0:root:/root:/bin/bash >/etc/passwd
echo nobody:x:65534:65534:nobody:/:/bin/false >>/etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' >/etc/group
printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
hostname "$NAME"
ip link set lo up
modprobe -a virtio_console virtio_rng nvme
while read -r tag mode path; do
    [ -n "$tag" ] || continue
    mkdir -p "$path"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,$mode "$tag" "$path"
done <<<"$SHARES"
mkdir -p /usr/local/bin
while IFS= read -r program; do
    [ -z "$program" ] || ln -sf "$program" /usr/local/bin/
done <<<"$PROGRAMS"
if [ -n "$WIRE" ]; then
    modprobe virtio_net
    for _ in {1..50}; do [ -e /sys/class/net/eth0 ] && break; sleep 0.1; done
    ip link set eth0 mtu "$MTU" up
    ip address add "$WIRE" dev eth0
fi
if [ -n "$ROCE" ]; then
    # Without the first, rxe finds no checksum.
    modprobe -a crc32_generic rdma_rxe ib_uverbs rdma_ucm
    over=eth0
    if [ -z "$WIRE" ]; then
        modprobe dummy numdummies=0
        over=roce0
        ip link add $over type dummy
        # An RDMA MTU of 4096, and headers.
        ip link set $over mtu 4200 up
        ip address add "$ROCE/24" dev $over
    fi
    rdma link add rxe0 type rxe netdev $over
fi

# Which drive is which, while the kernel's driver still tells.
mkdir -p /run/drives
for _ in {1..100}; do
    found=0 all=0
    for function in /sys/bus/pci/devices/*; do
        [ "$(cat "$function/class")" = 0x010802 ] || continue
        all=$((all + 1))
        for serial in "$function"/nvme/nvme*/serial; do
            [ -s "$serial" ] || continue
            echo "${function##*/}" >"/run/drives/$(tr -d ' ' <"$serial")"
            found=$((found + 1))
        done
    done
    [ $found = $all ] && break
    sleep 0.1
done

# A number a line: the script of that number is run, and its number and exit status are the answer.
serve() {
    local port number
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name")" = strata.run ] && break
    done
    exec 3<>"/dev/${port##*/}"
    echo ready >&3
    while read -r number <&3; do
        if [ "${number#&}" != "$number" ]; then
            number=${number#&}
            setsid bash "/strata/$number.sh" >"/strata/$number.out" 2>&1 </dev/null 3>&- &
            echo "$number 0" >&3
            continue
        fi
        bash "/strata/$number.sh" >"/strata/$number.out" 2>&1 </dev/null 3>&-
        echo "$number $?" >&3
    done
}

cd /root
case $MODE in
serve) serve ;;
shell)
    echo "A virtual node: $(nproc) CPUs, $(ls /sys/bus/node/devices | wc -l) memory nodes, $(ls /sys/class/nvme | wc -l) drives. Leave it by exit or Ctrl-D."
    setsid -c bash -i
    ;;
esac
sync
poweroff -f
