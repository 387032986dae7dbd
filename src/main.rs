//! The program: hands the arguments to the command line and ends with its exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    weather_station::identity::quiet_libtss2();
    weather_station::cli::main(std::env::args_os())
}
