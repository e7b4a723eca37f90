//! One ELF file that is kernel and bundle: the kernel's last segment is extended by the bundle, and the
//! kernel's own note of where it lies ([`hyperexo_abi::attachment`]) is filled in. Any loader that can load
//! the kernel then loads the bundle with it.

use hyperexo_abi::FRAME_BYTES;
use hyperexo_abi::attachment::{MAGIC, START_OFFSET};
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

/// The kernel `kernel`, an ELF file cut down to its segments, with `bundle` in it.
pub fn attach(kernel: &[u8], bundle: &[u8]) -> Result<Vec<u8>, String> {
    let header = FileHeader64::<Endianness>::parse(kernel).map_err(|error| error.to_string())?;
    let endian = header.endian().map_err(|error| error.to_string())?;
    let segments = header.program_headers(endian, kernel).map_err(|error| error.to_string())?;
    let loaded = segments.iter().enumerate().filter(|(_, segment)| segment.p_type(endian) == PT_LOAD);
    let (index, last) = loaded.max_by_key(|(_, one)| one.p_paddr(endian)).ok_or("it has no segment")?;
    let (offset, in_memory) = (last.p_offset(endian), last.p_memsz(endian));
    if offset.checked_add(last.p_filesz(endian)) != Some(kernel.len() as u64) {
        return Err("its last segment in memory is not the last in the file".into());
    }
    // What the loader would have cleared is in the file now.
    let before = in_memory.next_multiple_of(FRAME_BYTES as u64);
    let mut file = kernel.to_vec();
    file.resize((offset + before) as usize, 0);
    file.extend_from_slice(bundle);
    let bytes = before + bundle.len() as u64;
    let header_at = header.e_phoff.get(endian) as usize + index * size_of::<ProgramHeader64<Endianness>>();
    // Bytes in the file and bytes in memory, at 32 and 40 of a program header.
    for field in [32, 40] {
        file[header_at + field..][..8].copy_from_slice(&bytes.to_le_bytes());
    }
    let start = last.p_paddr(endian) + before;
    note(&mut file[..kernel.len()], [start, start + bundle.len() as u64])?;
    Ok(file)
}

/// Writes the bundle's addresses where the kernel looks for them.
fn note(kernel: &mut [u8], addresses: [u64; 2]) -> Result<(), String> {
    let mut places = kernel.windows(MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == MAGIC);
    let (Some((place, _)), None) = (places.next(), places.next()) else {
        return Err("it has no single place for a bundle: is it a kernel of this version?".into());
    };
    for (index, address) in addresses.iter().enumerate() {
        let field = kernel.get_mut(place + START_OFFSET + index * 8..).and_then(|rest| rest.get_mut(..8));
        field.ok_or("its place for a bundle is cut off")?.copy_from_slice(&address.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::image::{cut_down, tests::sample};

    /// A kernel with a place for a bundle at the start of its only segment.
    fn kernel() -> Vec<u8> {
        let mut file = cut_down(&sample(100, 8000)).unwrap().0;
        file[0x1000..][..MAGIC.len()].copy_from_slice(&MAGIC);
        file
    }

    #[test]
    fn the_bundle_is_in_the_last_segment_and_the_kernel_knows_where() {
        let file = attach(&kernel(), b"bundle").unwrap();
        let header = FileHeader64::<Endianness>::parse(&*file).unwrap();
        let segment = &header.program_headers(Endianness::Little, &*file).unwrap()[0];
        let sizes = [segment.p_filesz(Endianness::Little), segment.p_memsz(Endianness::Little)];
        assert_eq!(sizes, [8192 + 6; 2]);
        assert_eq!(segment.data(Endianness::Little, &*file).unwrap()[8192..], *b"bundle");
        let word = |at: usize| u64::from_le_bytes(file[0x1000 + at..][..8].try_into().unwrap());
        assert_eq!([word(16), word(24)], [0x10_2000, 0x10_2006]);
    }

    #[test]
    fn what_has_no_single_place_for_a_bundle_is_refused() {
        let plain = cut_down(&sample(100, 8000)).unwrap().0;
        assert!(attach(&plain, b"bundle").unwrap_err().contains("no single place"));
        let mut twice = kernel();
        twice[0x1020..][..MAGIC.len()].copy_from_slice(&MAGIC);
        assert!(attach(&twice, b"bundle").unwrap_err().contains("no single place"));
        let mut cut_off = plain;
        let end = cut_off.len();
        cut_off[end - MAGIC.len()..].copy_from_slice(&MAGIC);
        assert!(attach(&cut_off, b"bundle").unwrap_err().contains("cut off"));
        assert!(attach(b"no kernel", b"bundle").is_err());
    }
}
