//! Processor families.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The processors a program may be built for. A program that runs anywhere has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Arch {
    /// 64-bit Intel and AMD.
    #[serde(rename = "x86-64")]
    X86_64,
    /// 32-bit Intel and AMD.
    #[serde(rename = "x86")]
    X86,
    /// 64-bit ARM.
    #[serde(rename = "aarch64")]
    Aarch64,
    /// 32-bit ARM.
    #[serde(rename = "armv7")]
    Armv7,
    /// 64-bit RISC-V.
    #[serde(rename = "riscv64")]
    Riscv64,
}

impl Arch {
    /// Every processor with a name here.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::X86, Self::Aarch64, Self::Armv7, Self::Riscv64];

    /// The processor an ELF file is built for, from its first 20 bytes: class, byte order and
    /// `e_machine` (System V ABI, chapter 4). `None`: no ELF, or a processor without a name here.
    pub fn of_elf(head: &[u8]) -> Option<Self> {
        let little = match head.get(..6)? {
            [0x7f, b'E', b'L', b'F', _, 1] => true,
            [0x7f, b'E', b'L', b'F', _, 2] => false,
            _ => return None,
        };
        let wide = *head.get(4)? == 2;
        let machine = [*head.get(18)?, *head.get(19)?];
        let machine = if little {
            u16::from_le_bytes(machine)
        } else {
            u16::from_be_bytes(machine)
        };
        match (machine, wide, little) {
            (62, true, true) => Some(Self::X86_64),
            (3, false, true) => Some(Self::X86),
            (183, true, true) => Some(Self::Aarch64),
            (40, false, true) => Some(Self::Armv7),
            (243, true, true) => Some(Self::Riscv64),
            _ => None,
        }
    }

    /// The processor this program was built for.
    pub fn here() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "x86" => Some(Self::X86),
            "aarch64" => Some(Self::Aarch64),
            "arm" => Some(Self::Armv7),
            "riscv64" => Some(Self::Riscv64),
            _ => None,
        }
    }

    /// The name used in `update.toml` and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::X86 => "x86",
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
            Self::Riscv64 => "riscv64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(class: u8, machine: u16) -> Vec<u8> {
        let mut head = vec![0x7f, b'E', b'L', b'F', class, 1];
        head.resize(18, 0);
        head.extend(machine.to_le_bytes());
        head
    }

    #[test]
    fn an_elf_file_names_its_processor() {
        assert_eq!(Arch::of_elf(&elf(2, 62)), Some(Arch::X86_64));
        assert_eq!(Arch::of_elf(&elf(2, 183)), Some(Arch::Aarch64));
        assert_eq!(Arch::of_elf(&elf(1, 40)), Some(Arch::Armv7));
        assert_eq!(Arch::of_elf(&elf(2, 999)), None);
        for cut in 0..20 {
            assert_eq!(Arch::of_elf(&elf(2, 62)[..cut]), None);
        }
        assert_eq!(Arch::of_elf(b"#!/bin/sh\nexit 0 # long enough"), None);
    }

    #[test]
    fn this_very_test_is_built_for_this_processor() {
        let mut head = [0; 64];
        let path = std::env::current_exe().unwrap();
        std::io::Read::read_exact(&mut std::fs::File::open(path).unwrap(), &mut head).unwrap();
        assert_eq!(Arch::of_elf(&head), Arch::here());
    }

    #[test]
    fn names_in_json_are_those_in_messages() {
        for arch in Arch::ALL {
            assert_eq!(serde_json::to_value(arch).unwrap(), arch.as_str());
        }
    }
}
