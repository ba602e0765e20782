#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("package", &drover_fuzz::package::seeds()),
    |data: &[u8]| drover_fuzz::package::run(data)
);
