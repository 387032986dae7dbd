# shellcheck shell=bash
# One host of a roll-out: is it healthy, the package and the configuration, and the way back. Only fleet.sh reads this; each host's
# work runs in a process of its own, its output in HOST.log. Knows nothing of other hosts, canaries and batches.
# shellcheck disable=SC2034,SC2154  # the options of fleet.sh, its `record` and `slot`, and what these read

status_json() { root 'weather-station status --json' </dev/null 2>"$work/asked"; }

page_off='its page is off (showcase.listen), so nobody can ask whether it is healthy; turn it on, or use deploy/install.sh there'
no_reading='no new reading since it started' not_accepted='the hub has accepted no new reading'
# healthy VERSION: waits until the station is; says in $why what is missing. $hub and $sensor: whether it is asked for these.
healthy() {
    local first now end=$((SECONDS + timeout)) first_sequence='' first_accepted='' looks=0 longer=0
    why='it does not answer "weather-station status --json"'
    while true; do
        # What has answered once cannot have shown anything new: a second look is due to it.
        if [ "$SECONDS" -ge "$end" ] && [ "$looks" != 1 ]; then
            # Once, and only for what takes its time in a well station: a fault is not waited for.
            case "$why" in "$no_reading" | "$not_accepted") ;; *) return 1 ;; esac
            [ "$longer" -gt 0 ] || return 1
            say "well, but $why: its configuration takes up to $longer seconds more"
            end=$((end + longer)) longer=0
        fi
        if now=$(status_json) && jq -e . >/dev/null 2>&1 <<<"$now"; then
            if [ -z "$first_sequence" ]; then
                first=$now
                first_sequence=$(jq -r '.store.lastSequence' <<<"$first")
                first_accepted=$(jq -r '.cloud.lastAcceptedSequence // 0' <<<"$first")
                longer=$(patience "$hub" "$timeout" <<<"$first")
            fi
            why=$(jq -r --arg version "$1" --arg hub "$hub" --arg sensor "$sensor" --argjson sequence "$first_sequence" --argjson accepted "$first_accepted" \
                --arg no_reading "$no_reading" --arg not_accepted "$not_accepted" '
                if .version != $version then "it runs version \(.version), expected \($version)"
                elif $sensor == "yes" and .sensor.state != "ok" then "sensor \(.sensor.state): \(.sensor.reason // "no reason given")"
                elif $sensor == "yes" and .store.lastSequence <= $sequence then $no_reading
                elif $hub == "yes" and .cloud.state != "online" then "hub: \(.cloud.state), \(.cloud.reason // "no reason given")"
                elif $hub == "yes" and (.cloud.lastAcceptedSequence // 0) <= $accepted then $not_accepted
                else "" end' <<<"$now")
            [ -n "$why" ] || return 0
        elif page_is_off "$work/asked"; then
            why=$page_off
            return 1
        fi
        [ -z "$first_sequence" ] || looks=$((looks + 1))
        sleep 2
    done
}

one_host() {
    local host=$1 begun=$SECONDS before='' after='' why='' sensor=yes said present word back file architecture wanted installed=0
    local kept=/var/cache/weather-station/fleet-$rollout
    target=$host
    ssh_options+=(-o BatchMode=yes)
    # What ssh says and what helps, in one line of the table.
    if ! said=$( (open_target) 2>&1 >/dev/null | tail -n 3); then
        said=${said//$'\r'/} said=${said//"${0##*/}: "/}
        record "$host" failed "${said//$'\n'/; }"
        return
    fi
    open_target
    # A connection that breaks here must not look like a host without a station: that would be removed again.
    if ! present=$(root 'dpkg -s weather-station 2>/dev/null || true' </dev/null); then
        record "$host" failed "could not be asked what is installed there"
        return
    fi
    word=$(sed -n 's/^Status: .* //p' <<<"$present")
    case $word in
    installed | triggers-*) word=installed before=$(sed -n 's/^Version: //p' <<<"$present") ;;
    '' | not-installed | config-files) word=nothing ;;
    *) ;; # unpacked, half-configured, half-installed: cut while dpkg worked. What there was before, only what was kept tells.
    esac
    architecture=$(on_target 'dpkg --print-architecture' </dev/null || true)
    file=$package
    [ ! -d "$package" ] || file=$(newest_package "$package" "$architecture")
    if [ -z "$file" ]; then
        record "$host" failed "no package for ${architecture:-an unknown architecture}"
        return
    fi
    wanted=$(dpkg-deb --field "$file" Version)
    # A configuration may turn it on, and what this roll-out itself has turned off before it was cut has to go back.
    if [ -z "$config" ] && ! status_json >/dev/null && page_is_off "$work/asked" && root "[ ! -e $kept ]" </dev/null; then
        record "$host" failed "$page_off"
        return
    fi
    # Where all get a configuration, fleet.sh has looked into that.
    if [ -z "$config" ] && provisioned "$host" && root "grep -Eqs '$key_file' /etc/weather-station/station.toml" </dev/null; then
        record "$host" failed "$not_in_tpm"
        return
    fi
    if [ "$dry_run" = yes ]; then
        say "$host: ${before:-$word} -> $wanted${config:+, configuration}$(! provisioned "$host" || printf ', identity')"
        return
    fi
    # The way back is made before anything is changed: the package that is installed, the configuration in force, and how the
    # station was. An interrupted attempt has made it already, and must not overwrite it with what that attempt installed.
    # It counts only when all of it is on the disk: a full disk must not leave half a package under that name. `none` in it says that
    # no package was installed: what is installed since is this roll-out's, and another version is somebody's, and kept instead.
    if ! root "
        set -e
        if [ -e $kept ]; then
            [ $word = installed ] && [ ! -e $kept/back.deb ] || exit 0
            [ ! -e $kept/none ] || [ '$before' != '$wanted' ] || exit 0
        fi
        mkdir -p /var/cache/weather-station
        cd /var/cache/weather-station
        rm -rf fleet-*
        mkdir fleet-new
        [ ! -e /etc/weather-station/station.toml ] || cp -p /etc/weather-station/station.toml fleet-new/
        # current.deb is what install.sh brought last. A version that came without it is another.
        case $word in
        nothing) : >fleet-new/none ;;
        installed) [ \"\$(dpkg-deb --field current.deb Version 2>/dev/null)\" != '$before' ] || cp -p current.deb fleet-new/back.deb ;;
        *) [ ! -e current.deb ] || cp -p current.deb fleet-new/back.deb ;;
        esac
        weather-station status --json > fleet-new/status.json 2>/dev/null || true
        sync -f fleet-new
        mv fleet-new $kept" </dev/null; then
        record "$host" failed "could not keep the present state (disk full or read-only?)"
        return
    fi
    if [ "$word" != nothing ]; then
        if ! back=$(root "if [ -e $kept/none ]; then echo none; elif [ -e $kept/back.deb ]; then dpkg-deb --field $kept/back.deb Version; fi" </dev/null); then
            record "$host" failed "could not read what is kept for the way back"
            return
        fi
        if [ -z "$back" ] && [ "$word" = installed ]; then
            # The next attempt finds what that brings.
            root "rm -rf $kept" </dev/null || true
            record "$host" failed "no way back: $before was not installed by install.sh or fleet.sh; run deploy/install.sh with that version first"
            return
        fi
        # After an interrupted attempt dpkg may name the new version already.
        before=${back#none}
    fi
    record "$host" working "installing $wanted"

    why=''
    # Half an hour: a host that answers but hangs must not hold its batch for ever. `timeout` makes a process group of its own,
    # which an interrupt of this host's group does not reach: it is passed on, and the installation's end waited for.
    trap 'jobs -p | xargs -r kill -TERM; wait; exit 143' INT TERM HUP
    timeout --kill-after=20 1800 "$here/install.sh" --package "$file" ${config:+--config "$config"} "$host" &
    wait $! || installed=$?
    trap - INT TERM HUP
    if [ "$installed" != 0 ]; then
        why="installation failed (see $(basename "$(slot "$host")").log)"
    elif [ "$dps" = yes ] && ! "$here/provision.sh" "${offline[@]}" --dps "$host"; then
        why='provisioning by the service failed'
    elif [ -n "$secrets" ] && [ -r "$secrets/$host" ] && ! "$here/provision.sh" "${offline[@]}" --connection-string-file "$secrets/$host" "$host"; then
        why='provisioning failed'
    elif healthy "${wanted%-*}"; then
        after=$wanted
        # What was kept has done its work: what somebody changes there from now on, no later run may undo.
        if root "rm -rf $kept" </dev/null; then
            record "$host" 'done' "healthy"
        else
            record "$host" failed "healthy, but what was kept for the way back could not be removed; start again with the same arguments"
        fi
        return
    fi

    # --- back ---
    local first=$why
    say "going back: $first"
    if [ -z "$before" ]; then
        # Of a package that never came to be there apt says that it cannot find it.
        if back=$(root "
            set -e
            $exclusive
            case \$(dpkg -s weather-station 2>/dev/null | sed -n 's/^Status: .* //p') in
            '' | not-installed | config-files) echo 'nothing was installed' ;;
            *)
                apt-get remove -y $apt_waits weather-station >&2
                echo 'removed again, as it was not installed before'
                ;;
            esac
            rm -rf $kept" </dev/null); then
            record "$host" back "$first; $back"
        else
            record "$host" lost "$first; and could not be removed again"
        fi
        return
    fi
    # Going back heals what the new version broke, not what was broken before: of a station whose sensor was dead no reading is
    # asked, and of none that the hub accepts (a dead network). Where it is not known how the station was, its sensor counts.
    hub=no
    if root "cat $kept/status.json" </dev/null 2>/dev/null | jq -e '.sensor.state != "ok"' >/dev/null 2>&1; then sensor=no; fi
    # What was kept has done its work then: a later attempt must not go back beyond what somebody repaired in between.
    if ! root "
        set -e
        $exclusive
        cd $kept
        dpkg --configure -a >/dev/null 2>&1 || true
        # dpkg where apt has something else to complain of: it needs no other package.
        $apt_install ./back.deb || dpkg --force-downgrade --force-confold -i back.deb
        [ ! -e station.toml ] || cp -p station.toml /etc/weather-station/station.toml
        cp -p back.deb ../back.deb
        mv ../back.deb ../current.deb
        systemctl restart weather-station.service
        cd ..
        rm -rf $kept" </dev/null; then
        record "$host" lost "$first; and the way back failed"
        return
    fi
    after=$before
    if ! healthy "${before%-*}"; then
        # With the configuration of before, so it was off then as well.
        if [ "$why" = "$page_off" ] && root 'systemctl is-active --quiet weather-station.service' </dev/null; then
            record "$host" back "$first; back on $before, with its page off as before"
        else
            record "$host" lost "$first; back on $before, but: $why"
        fi
    elif [ "$sensor" = yes ]; then
        record "$host" back "$first; back on $before and taking readings"
    else
        record "$host" back "$first; back on $before, with the sensor that was not well before either"
    fi
}

# What gets into the TPM is no identity for a station whose key is in a file.
key_file='^[^#]*source *= *.key-file'
not_in_tpm='its key is in a file (identity.source), and this provisions TPMs: use deploy/provision.sh --to-key-file'
provisioned() { [ "$dps" = yes ] || { [ -n "$secrets" ] && [ -r "$secrets/$1" ]; }; }
