//! The command `flowproof`.

/// What is read on one thread is let go on another, and most of what is held is small: this one is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    flowproof::cli::main()
}
