#!/bin/busybox sh
# The guest's first process: loads what it takes to reach its root, a folder of the host under a layer of memory, and goes on
# there with what the host has put into /strata.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r module; do
    $b insmod "/modules/$module" || echo "strata: cannot load $module"
done </modules/order
share=trans=virtio,version=9p2000.L,msize=524288
$b mount -t 9p -o $share,cache=loose,ro root /lower
$b mount -t tmpfs -o mode=755 tmpfs /upper
$b mkdir /upper/files /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new
for folder in proc sys dev; do
    $b mkdir -p /new/$folder
    $b mount --move /$folder /new/$folder
done
$b mkdir -p /new/strata
$b mount -t 9p -o $share strata /new/strata
# Before anything runs by the library that this replaces.
[ ! -d /new/strata/libc ] || $b cp -f /new/strata/libc/* /new/lib/x86_64-linux-gnu/
exec $b switch_root /new /bin/bash /strata/init
