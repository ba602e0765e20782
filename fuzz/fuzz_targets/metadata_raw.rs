#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("metadata_raw", &drover_fuzz::metadata_raw::seeds()),
    |data: &[u8]| drover_fuzz::metadata_raw::run(data)
);
