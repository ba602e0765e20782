#![no_main]

libfuzzer_sys::fuzz_target!(
    init: drover_fuzz::seeds::write("metadata_signed", &drover_fuzz::metadata_signed::seeds()),
    |data: &[u8]| drover_fuzz::metadata_signed::run(data)
);
