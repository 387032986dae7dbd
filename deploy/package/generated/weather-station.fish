# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_weather_station_global_optspecs
    string join \n config= h/help V/version
end

function __fish_weather_station_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_weather_station_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_weather_station_using_subcommand
    set -l cmd (__fish_weather_station_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c weather-station -n "__fish_weather_station_needs_command" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_needs_command" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_needs_command" -s V -l version -d 'Print version'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "run" -d 'Be the station: sample, store, send (the daemon; SIGTERM ends it in order)'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "read" -d 'Take one reading and print it'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "provision" -d 'Put the station\'s identity into the TPM, show it, or remove it'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "token" -d 'Print a SAS token made by the TPM (a secret until it expires)'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "status" -d 'Tell what the running station is doing'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "check" -d 'Check configuration, sensor, TPM, clock, disk and hub in turn'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "export" -d 'Print readings from the store, also while the station runs'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "verify" -d 'Prove from messages exported from the hub that nothing is missing'
complete -c weather-station -n "__fish_weather_station_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c weather-station -n "__fish_weather_station_using_subcommand run" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand run" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_using_subcommand read" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand read" -l json -d 'Print JSON, with the keys of telemetry'
complete -c weather-station -n "__fish_weather_station_using_subcommand read" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l connection-string-file -d 'A file that holds a device connection string; `-` for standard input' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l host -d 'Host name or IP of the hub' -r
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l device-id -d 'The device\'s id at the hub' -r
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l key-file -d 'A file that holds the device\'s primary key in base64; `-` for standard input' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l show -d 'Show what the TPM holds (never a secret)'
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l clear -d 'Remove key and name from the TPM; the storage root key stays'
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l dps -d 'Let the Device Provisioning Service provision the TPM'
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l show-enrollment -d 'Print registration id and endorsement key as the Device Provisioning Service wants them'
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -l force -d 'Replace another identity'
complete -c weather-station -n "__fish_weather_station_using_subcommand provision" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_using_subcommand token" -l lifetime -d 'How long it is to hold, 1s to 24h' -r
complete -c weather-station -n "__fish_weather_station_using_subcommand token" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand token" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_using_subcommand status" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand status" -l json -d 'Print the whole status document as JSON'
complete -c weather-station -n "__fish_weather_station_using_subcommand status" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_using_subcommand check" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand check" -l json -d 'Print the results as JSON'
complete -c weather-station -n "__fish_weather_station_using_subcommand check" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_using_subcommand export" -l since -d 'From this moment on: a time, a day, or how long ago (7d)' -r
complete -c weather-station -n "__fish_weather_station_using_subcommand export" -l until -d 'Before this moment' -r
complete -c weather-station -n "__fish_weather_station_using_subcommand export" -l format -r -f -a "csv\t'A header and a line per reading'
json\t'A JSON object per line, with the keys of telemetry'"
complete -c weather-station -n "__fish_weather_station_using_subcommand export" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c weather-station -n "__fish_weather_station_using_subcommand verify" -l config -d 'The configuration file' -r -F
complete -c weather-station -n "__fish_weather_station_using_subcommand verify" -s h -l help -d 'Print help'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "run" -d 'Be the station: sample, store, send (the daemon; SIGTERM ends it in order)'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "read" -d 'Take one reading and print it'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "provision" -d 'Put the station\'s identity into the TPM, show it, or remove it'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "token" -d 'Print a SAS token made by the TPM (a secret until it expires)'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "status" -d 'Tell what the running station is doing'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "check" -d 'Check configuration, sensor, TPM, clock, disk and hub in turn'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "export" -d 'Print readings from the store, also while the station runs'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "verify" -d 'Prove from messages exported from the hub that nothing is missing'
complete -c weather-station -n "__fish_weather_station_using_subcommand help; and not __fish_seen_subcommand_from run read provision token status check export verify help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
