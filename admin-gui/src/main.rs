//! The author's desk on the command line.

fn main() -> std::process::ExitCode {
    admin_gui::cli::main()
}
