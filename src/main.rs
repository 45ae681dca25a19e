//! The `awi` binary: the operator, and the commands around it.

use std::process::ExitCode;

use airflow_workload_identity::cli::Cli;

// A pass is thousands of small allocations, for which the C library's takes more time and more room.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

// A pass mostly waits for answers: one thread has time for more than an API server takes, and wakes no other.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // One TLS provider for Kubernetes and Azure.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let done = Cli::from_arguments().execute().await;
    // In words: as a Result it would be printed with a stack trace wherever RUST_BACKTRACE is set.
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        for cause in error.chain().skip(1) {
            eprintln!("  {cause}");
        }
        ExitCode::FAILURE
    })
}
