//! Kernels of every form, whole and damaged, and Debian's own.

use std::io::Write;

use super::*;

/// A program that passes for a kernel's, of `len` bytes.
fn program(len: usize) -> Vec<u8> {
    let mut program: Vec<u8> = (0..len).map(|index| ((index * index) >> 5) as u8).collect();
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[0x12..0x14].copy_from_slice(&MACHINE_X86_64.to_le_bytes());
    program
}

/// A bzImage with this payload, whose size it says to be `len`.
fn image(packed: &[u8], len: Option<u32>) -> Vec<u8> {
    let size = len.map(u32::to_le_bytes);
    let payload = [packed, size.as_ref().map_or(&[][..], |size| size)].concat();
    let mut image = vec![0; 3 * SECTOR + 0x40];
    image[SETUP_SECTORS_AT] = 2;
    image[HEADER_MAGIC_AT..HEADER_MAGIC_AT + 4].copy_from_slice(b"HdrS");
    image[PROTOCOL_AT..PROTOCOL_AT + 2].copy_from_slice(&0x020F_u16.to_le_bytes());
    image[PAYLOAD_AT.0..PAYLOAD_AT.0 + 4].copy_from_slice(&0x40_u32.to_le_bytes());
    let payload_len = u32::try_from(payload.len()).unwrap();
    image[PAYLOAD_AT.1..PAYLOAD_AT.1 + 4].copy_from_slice(&payload_len.to_le_bytes());
    image.extend(payload);
    image.extend([0xCC; 100]);
    image
}

fn lz4(program: &[u8]) -> Vec<u8> {
    let mut packed = LZ4_MAGIC.to_vec();
    for block in program.chunks(LZ4_BLOCK_LEN_MAX) {
        let block = lz4_flex::block::compress(block);
        packed.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        packed.extend(block);
    }
    packed
}

fn gzip(program: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(program).unwrap();
    encoder.finish().unwrap()
}

fn zstd(program: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(program, ruzstd::encoding::CompressionLevel::Fastest)
}

fn unpacked(image: &[u8]) -> Result<Vec<u8>, VmlinuxError> {
    unpack(Path::new("vmlinuz"), image)
}

#[test]
fn each_form_is_unpacked() {
    let program = program(LZ4_BLOCK_LEN_MAX + 12_345);
    let len = u32::try_from(program.len()).unwrap();
    // The end of a gzip stream is the size.
    for (packed, size) in [(lz4(&program), Some(len)), (gzip(&program), None), (zstd(&program), Some(len))] {
        assert!(unpacked(&image(&packed, size)).unwrap() == program, "{:?}", &packed[..4]);
    }
}

#[test]
fn what_cant_be_unpacked_is_named() {
    for (magic, name) in [
        (&b"\xfd7zXZ\0"[..], "xz"),
        (b"BZh9", "bzip2"),
        (b"\x5d\0\0\x80", "lzma"),
        (b"\x89LZO\0", "lzo"),
        (b"\x04\x22\x4d\x18", "LZ4's newer form"),
        (b"none", "something unknown"),
    ] {
        let result = unpacked(&image(magic, Some(100)));
        assert!(matches!(result, Err(VmlinuxError::Form { form, .. }) if form == name), "{result:?}");
    }
}

#[test]
fn damage_is_noticed() {
    let (program, len) = (program(20_000), 20_000);
    let packed = lz4(&program);
    let cut = &packed[..packed.len() - 1];
    let mut flipped = packed.clone();
    flipped[4] ^= 1;
    for (packed, len) in [(cut, len), (&flipped, len), (&packed, len - 1), (&packed, len + 1), (&packed, 0)] {
        let result = unpacked(&image(packed, Some(len)));
        assert!(matches!(result, Err(VmlinuxError::Damaged { .. })), "{result:?}");
    }
    let mut zipped = gzip(&program);
    let middle = zipped.len() / 2;
    zipped[middle] ^= 0xFF;
    assert!(matches!(unpacked(&image(&zipped, None)), Err(VmlinuxError::Damaged { .. })));
    let mut standard = zstd(&program);
    standard.truncate(standard.len() / 2);
    assert!(matches!(unpacked(&image(&standard, Some(len))), Err(VmlinuxError::Damaged { .. })));
}

#[test]
fn bombs_are_not_unpacked() {
    let packed = lz4(&program(100));
    assert!(matches!(unpacked(&image(&packed, Some(u32::MAX))), Err(VmlinuxError::TooLarge(_))));
    // 64 MiB of nothing that say to be a kernel of 1 MiB.
    let nothing = gzip(&vec![0; 64 << 20]);
    let lying = [&nothing[..nothing.len() - 4], &(1u32 << 20).to_le_bytes()].concat();
    assert!(matches!(unpacked(&image(&lying, None)), Err(VmlinuxError::Damaged { .. })));
    let block = lz4_flex::block::compress(&vec![0; 2 * LZ4_BLOCK_LEN_MAX]);
    let len = u32::try_from(block.len()).unwrap().to_le_bytes();
    let bomb = [&LZ4_MAGIC[..], &len, &block].concat();
    assert!(matches!(unpacked(&image(&bomb, Some(64 << 20))), Err(VmlinuxError::Damaged { .. })));
}

#[test]
fn what_is_no_kernel_is_refused() {
    let whole = image(&lz4(&program(100)), Some(100));
    let mut old = whole.clone();
    old[PROTOCOL_AT + 1] = 1;
    let mut outside = whole.clone();
    outside[PAYLOAD_AT.1 + 3] = 0x7F;
    let mut foreign = program(100);
    foreign[0x12] = 183;
    let foreign = image(&lz4(&foreign), Some(100));
    for bytes in [&[][..], b"#!/bin/sh", &whole[..0x210], &whole[..0x660], &old, &outside, &foreign] {
        assert!(matches!(unpacked(bytes), Err(VmlinuxError::NotAKernel(_))));
    }
}

#[test]
fn it_is_made_once_and_an_elf_kernel_is_taken_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (cache, packed) = (directory.path().join("cache"), directory.path().join("vmlinuz"));
    let program = program(5000);
    fs::write(&packed, image(&lz4(&program), Some(5000))).unwrap();
    let made = extract(&packed, &cache).unwrap();
    assert!(fs::read(&made).unwrap() == program);
    let inode = fs::metadata(&made).unwrap().ino();
    assert_eq!(extract(&packed, &cache).unwrap(), made);
    assert_eq!(fs::metadata(&made).unwrap().ino(), inode);
    assert_eq!(extract(&made, &cache).unwrap(), made);
    // Another kernel at the same place is another program.
    fs::write(&packed, image(&gzip(&program), None)).unwrap();
    assert_ne!(extract(&packed, &cache).unwrap(), made);
    fs::write(&packed, "nothing").unwrap();
    assert!(matches!(extract(&packed, &cache), Err(VmlinuxError::NotAKernel(_))));
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
}

#[test]
fn debians_kernel_is_unpacked() {
    let Some(tree) = hypercore_fixtures::guest_kernel() else {
        hypercore_fixtures::host::note_skipped("debians_kernel_is_unpacked", "no guest kernel");
        return;
    };
    let kernel = super::super::kernel::Kernel::in_tree(&tree).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let program = fs::read(extract(&kernel.image, directory.path()).unwrap()).unwrap();
    assert!(program.starts_with(b"\x7fELF\x02\x01"));
    let banner = format!("Linux version {} ", kernel.release);
    assert!(memchr::memmem::find(&program, banner.as_bytes()).is_some());
    // As an ELF file beside its modules, it is a kernel of the same release.
    let beside = directory.path().join("boot");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("vmlinux"), &program).unwrap();
    let modules = directory.path().join("lib/modules").join(&kernel.release).join("kernel");
    fs::create_dir_all(&modules).unwrap();
    let elf = super::super::kernel::Kernel::at(&beside.join("vmlinux")).unwrap();
    assert_eq!(elf.release, kernel.release);
}
