# shellcheck shell=bash
# shellcheck source=tests/field/machines.sh disable=SC2154  # run and repository are set there
# The guest of power.sh: its disk image, its devices on the host, boot and power cut; and what pi.sh shares with it: the host's
# side, and the questions to a guest that does not answer. Uses tests/field/machines.sh.

box=$repository/target/box
exec 6>&1 # a diagnosis is shown whole, whatever becomes of the output of the command that found cause for one
port_base=$((20000 + $$ % 2500 * 4)) # four each, also for two that begin one after the other
ssh_port=$port_base web_port=$((port_base + 1)) amqp_port=$((port_base + 2)) https_port=$((port_base + 3))

kernel_version() { basename "$(ls -d "$box"/kernel-amd64/lib/modules/*)"; }

# The modules of the kernel package that the guest needs, with what they depend on, in loading order.
modules() {
    local name
    for name in "$@"; do
        modprobe -d "$box/kernel-amd64" -S "$(kernel_version)" --show-depends "$name" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++'
}

guest_image() {
    local version root module
    version=$(kernel_version)
    [ -e "$box/kernel-amd64/lib/modules/$version/modules.dep.bin" ] || depmod -b "$box/kernel-amd64" "$version"

    # initramfs: mounts the disk and hands over; nothing else.
    rm -rf "$run/initramfs"
    mkdir -p "$run/initramfs"/{bin,dev,proc,sys,root,modules}
    cp "$box/kernel-amd64/bin/busybox" "$run/initramfs/bin/"
    {
        printf '#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n/bin/busybox mount -t proc proc /proc\n'
        for module in $(modules virtio_pci virtio_blk crc32c_generic ext4); do
            local plain
            plain=$(basename "${module%.xz}")
            case $module in *.xz) xz -dc "$module" >"$run/initramfs/modules/$plain" ;; *) cp "$module" "$run/initramfs/modules/" ;; esac
            printf '/bin/busybox insmod /modules/%s\n' "$plain"
        done
        printf 'for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; /bin/busybox sleep 0.5; done\n'
        printf '/bin/busybox mount -t ext4 -o rw /dev/vda /root || { echo "the root file system does not mount"; /bin/busybox poweroff -f; }\n'
        printf '/bin/busybox umount /proc; /bin/busybox mount --move /dev /root/dev\nexec /bin/busybox switch_root /root /lib/systemd/systemd\n'
    } >"$run/initramfs/init"
    chmod +x "$run/initramfs/init"
    (cd "$run/initramfs" && find . | cpio -o -H newc --quiet | gzip -1) >"$run/initrd.gz"

    # The root: the clean station base, the modules, a network, a key.
    root=$(overlay guest "$(station_base)")
    for module in $(modules virtio_net virtio_rng xhci_pci i2c-dev i2c-tiny-usb autofs4); do
        install -D -m 644 "$module" "$root/lib/modules/$version/${module#*"/modules/$version/"}"
    done
    cp "$box/kernel-amd64/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version/"
    chroot "$root" depmod "$version"
    printf 'box\n' >"$root/etc/hostname"
    printf '/dev/vda / ext4 defaults 0 0\n' >"$root/etc/fstab"
    mkdir -p "$root/root/.ssh" "$root/etc/systemd/network"
    printf '[Match]\nName=en* eth*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/10-box.network"
    chroot "$root" systemctl enable --quiet systemd-networkd.service
    chroot "$root" systemctl mask --quiet getty@tty1.service serial-getty@ttyS0.service systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer
    ssh-keygen -q -t ed25519 -N '' -f "$run/key"
    cp "$run/key.pub" "$root/root/.ssh/authorized_keys"
    chmod -R go= "$root/root/.ssh"
    mkdir -p "$root/var/log/journal" # kept on the disk: what a guest that never answered has to say
    # The control: a file that is written without fsync, each line reported to the host. It starts anew at each boot.
    cat >"$root/usr/local/sbin/control" <<'SH'
#!/bin/sh
n=0
: > /var/lib/control
while :; do
    n=$((n + 1))
    echo $n >> /var/lib/control
    echo $n > /dev/ttyS1
    sleep 0.2
done
SH
    chmod +x "$root/usr/local/sbin/control"
    rm -f "$run/disk.img"
    truncate -s 1500M "$run/disk.img"
    mke2fs -q -t ext4 -F -d "$root" -L root -E lazy_itable_init=0,lazy_journal_init=0 "$run/disk.img"

    cat >"$run/ssh_config" <<SSH
Host box
  HostName 127.0.0.1
  Port $ssh_port
  User root
  IdentityFile $run/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  ControlMaster auto
  ControlPath $run/mux-%C
  ControlPersist 30
SSH
    export WEATHER_STATION_SSH_CONFIG=$run/ssh_config
}

# --- the host's side ---
guest_hub() { # DEVICE: the emulator on loopback, which the guest reaches as 10.0.2.2
    mkdir -p "$run/hub"
    head -c 32 /dev/urandom | base64 -w0 >"$run/$1.key"
    printf 'HostName=10.0.2.2;DeviceId=%s;SharedAccessKey=%s' "$1" "$(cat "$run/$1.key")" >"$run/$1.string"
    hub_device=$1
    hub_start
}
hub_start() {
    local emulator
    emulator=$(binary hub-emulator) # not below: a build takes longer than the wait for the ports
    : >"$run/hub/ports"
    "$emulator" --name 10.0.2.2 --dir "$run/hub" --record "$run/record" --port "$amqp_port" --https-port "$https_port" \
        --device "$hub_device=$run/$hub_device.key" >"$run/hub/ports" 2>"$run/hub/log" &
    hub_process=$!
    started+=("$hub_process")
    until_true 20 test -s "$run/hub/ports"
}
hub_restart() {
    kill -TERM "$hub_process"
    wait "$hub_process" || true
    hub_start
}
sensor_start() {
    mkfifo "$run/sensor"
    python3 tests/box/bme280_usb.py "$run/usb.sock" <"$run/sensor" >"$run/sensor.log" 2>&1 &
    started+=($!)
    exec 7>"$run/sensor"
    until_true 10 test -S "$run/usb.sock"
}
sensor() { echo "$*" >&7; }
disk_start() {
    rm -f "$run/disk.sock"
    python3 tests/box/volatile_disk.py "$run/disk.sock" "$run/disk.img" >>"$run/disk.log" 2>&1 7>&- &
    disk_process=$!
    started+=("$disk_process")
    until_true 10 test -S "$run/disk.sock"
}
says() { curl -sf -m 5 "http://127.0.0.1:$web_port/api/status" | jq -e "$1" >/dev/null; }
running() { kill -0 "$qemu_process" 2>/dev/null; }
# shellcheck disable=SC2317  # called by until_true
says_or_ended() { ! running || says "$1"; }
# soon SECONDS FILTER: the status document comes to satisfy the filter; it is shown when it does not, and what is known of a
# guest that gives none.
soon() {
    if until_true "$1" says_or_ended "$2" && running; then return 0; fi
    if ! curl -sf -m 5 "http://127.0.0.1:$web_port/api/status" | jq -c '{sensor, cloud, identity, clock, store}'; then diagnose "no status document"; fi
    return 1
}
# diagnose WHAT: is it this machine, the emulator, the guest's kernel, its network or the program that stands still?
diagnose() {
    {
        printf -- '--- %s, after %s s ---\n' "$1" "$SECONDS"
        printf 'this machine: load %s, memory free %s kB\n' "$(cut -d' ' -f1-3 /proc/loadavg)" "$(awk '/MemAvailable/ { print $2 }' /proc/meminfo)"
        if running; then
            # A process that works moves in utime; one that waits says where.
            spent() { awk '{ printf "%s+%s ticks", $14, $15 }' "/proc/$qemu_process/stat"; }
            printf 'the emulator runs: %s' "$(spent)"
            sleep 3
            printf ', 3 s later %s\n' "$(spent)"
            for task in "/proc/$qemu_process/task"/*; do
                printf '  %-16s %s %s\n' "$(cat "$task/comm")" "$(awk '{ print $3, $14 }' "$task/stat")" "$(cat "$task/wchan" 2>/dev/null)"
            done
            # No answer here: its main loop hangs, not the guest. The same pc at every look: the guest's processors do.
            python3 - "$run/monitor" <<'PY' || echo 'the monitor does not answer'
import socket, sys, time
monitor = socket.socket(socket.AF_UNIX)
monitor.settimeout(5)
monitor.connect(sys.argv[1])
for command in ("info status", "info cpus", "info registers -a", "info registers -a", "info usb", "info network"):
    monitor.sendall(command.encode() + b"\n")
    time.sleep(0.5)
monitor.settimeout(2)
text = b""
try:
    while part := monitor.recv(65536):
        text += part
except TimeoutError:
    pass
for line in text.decode(errors="replace").splitlines():
    if any(word in line for word in ("VM status", "CPU #", "PC=", "RIP=", "Device ", "type=")):
        print("  | " + line.strip()[:160])
PY
        else
            printf 'the emulator has ended:\n'
        fi
        tail -n 10 "$run/qemu.log" | sed 's/^/  qemu: /'
        for file in "$run/console" "$run/ttyS0"; do [ ! -s "$file" ] || tail -n 40 "$file" | cut -c1-200 | sed 's/^/  guest: /'; done
        printf -- '---\n'
    } >&6 2>&1
}
# The journal of a guest that is given up: its disk, mounted without touching it.
guest_journal() {
    kill -TERM "$qemu_process" 2>/dev/null || true # in order: what it holds for the disk is written
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        running || break
        sleep 1
    done
    kill -KILL "$qemu_process" 2>/dev/null || true
    mkdir -p "$run/lost"
    if mount -o ro,noload,loop "$run/disk.img" "$run/lost"; then
        journalctl -D "$run/lost/var/log/journal" --no-pager -n 60 -o short-monotonic | sed 's/^/  journal: /' || true
        umount "$run/lost"
    fi
}
# dated RECORD [KEY]: every reading (or whatever has KEY) in the hub's record is dated within a day of now, and there are some.
# The record keeps a body as it was sent, as text. Of events (key `event`) this is not asked yet: theirs were dated by the
# clock as it was before it was right.
dated() {
    local found wrong
    found=$(jq -c --arg key "${2:-currentTemperature}" '.body | fromjson? | .. | objects | select(has("time") and has($key))' "$1") || return 1
    [ -n "$found" ] || { echo "nothing with a time and ${2:-currentTemperature} in $1"; return 1; }
    wrong=$(jq -c --argjson now "$(date +%s)" 'select((.time | sub("\\.[0-9]+Z$"; "Z") | fromdateiso8601) as $t | $t < $now - 86400 or $t > $now + 86400)' <<<"$found") || return 1
    [ -z "$wrong" ] || { tail -n 5 <<<"$wrong"; return 1; }
}

# guest_boot [QEMU ARGUMENT...]: until ssh answers.
guest_boot() {
    guest_try "$@" && return 0
    # On a loaded host an emulated processor may lose its timer; the guest's kernel says so and stands still, before
    # anything of the station has begun. A hang of the station itself says no such thing, and is not tried again.
    stands_still || return 1
    printf 'the emulated processor lost its timer: booted once more\n'
    guest_cut
    guest_try "$@"
}
stands_still() { grep -q 'rcu: .*timer handling issue' "$run/ttyS0"; }
guest_try() {
    rm -f "$run/tpm.sock"
    mkdir -p "$run/tpm"
    swtpm socket --tpm2 --tpmstate "dir=$run/tpm" --ctrl "type=unixio,path=$run/tpm.sock" --flags startup-clear --terminate >"$run/tpm.log" 2>&1 7>&- &
    started+=($!)
    until_true 10 test -S "$run/tpm.sock"
    QEMU_MODULE_DIR=$box/qemu/usr/lib/x86_64-linux-gnu/qemu LD_LIBRARY_PATH=$box/qemu/usr/lib/x86_64-linux-gnu:$box/qemu/lib/x86_64-linux-gnu "$box/qemu/usr/bin/qemu-system-x86_64" \
        -L "$box/qemu/usr/share/qemu" -L "$box/qemu/usr/share/seabios" \
        -M q35,accel=tcg -cpu max -smp 2 -m 512 -nodefaults -no-user-config -no-reboot -display none -monitor "unix:$run/monitor,server=on,wait=off" \
        -kernel "$box/kernel-amd64/boot/vmlinuz-$(kernel_version)" -initrd "$run/initrd.gz" \
        -append 'console=ttyS0 panic=-1 loglevel=4 mitigations=off no_timer_check cryptomgr.notests' \
        -drive "if=none,id=d0,file=nbd:unix:$run/disk.sock,format=raw,cache=writeback" -device virtio-blk-pci,drive=d0 \
        -device virtio-rng-pci -device virtio-net-pci,netdev=n0,romfile= \
        -netdev "user,id=n0,hostfwd=tcp:127.0.0.1:$ssh_port-:22,hostfwd=tcp:127.0.0.1:$web_port-:8080" \
        -serial "file:$run/ttyS0" -serial "file:$run/ttyS1" \
        -device qemu-xhci -chardev "socket,id=ur,path=$run/usb.sock" -device usb-redir,chardev=ur \
        -chardev "socket,id=tpm,path=$run/tpm.sock" -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-tis,tpmdev=tpm0 \
        "$@" >"$run/qemu.log" 2>&1 7>&- &
    qemu_process=$!
    started+=("$qemu_process")
    local begun=$SECONDS
    # shellcheck disable=SC2317  # called by until_true
    answers_or_not() { ! running || on box true || { stands_still && [ $((SECONDS - begun)) -gt 300 ]; }; }
    if ! until_true 900 answers_or_not || ! running || ! on box true; then
        diagnose "the guest does not answer"
        guest_journal >&6 2>&1
        return 1
    fi
    printf 'booted in %s s\n' $((SECONDS - begun))
    # What the last cut has left of the control, before it begins anew.
    # shellcheck disable=SC2034  # read by power.sh
    control_kept=$(on box 'cat /var/lib/control 2>/dev/null | wc -l') || control_kept=0
    on box 'systemd-run -q --unit control /usr/local/sbin/control' || true
}
# The plug is pulled: first the disk loses its cache, then the machine is gone.
guest_cut() {
    kill -USR1 "$disk_process"
    wait "$disk_process" || true
    kill -KILL "$qemu_process" 2>/dev/null || true # it is gone already where a boot was given up
    wait "$qemu_process" 2>/dev/null || true
    rm -f "$run"/mux-*
    disk_start
}
# What the host knows to be on disk: the station's own word, several times a second.
watch_start() {
    : >"$run/seen"
    (
        while :; do
            curl -sf -m 2 "http://127.0.0.1:$web_port/api/status" | jq -r '.store.lastSequence' >>"$run/seen" 2>/dev/null || true
            sleep 0.2
        done
    ) 7>&- &
    watcher=$!
    started+=("$watcher")
}
watch_stop() {
    kill "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
}
