#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("manifest", &drover_fuzz::manifest::seeds()),
    |data: &[u8]| drover_fuzz::manifest::run(data)
);
