//! The command `flowproof`.

fn main() -> std::process::ExitCode {
    flowproof::cli::main()
}
