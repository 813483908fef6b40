//! Where the running kernel keeps the fields that `polite` reads, from its own description of its
//! types (BTF). Rust's compiler cannot emit relocations against it, so the offsets are passed to
//! the program as constants, and the verifier checks them.

use std::{fs, sync::OnceLock};

use btfparse::{Error, ErrorKind, Offset, Readable, TypeInformation};

/// Offsets in `struct tcp_sock`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpFields {
    pub(super) bytes_received: u32,
    pub(super) rcv_nxt: u32,
    pub(super) copied_seq: u32,
}

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The offsets in this kernel, or why they are not known. Read once: it takes some 100 ms.
pub(super) fn tcp_fields() -> Result<TcpFields, String> {
    static FIELDS: OnceLock<Result<TcpFields, String>> = OnceLock::new();
    FIELDS.get_or_init(look_up).clone()
}

fn look_up() -> Result<TcpFields, String> {
    let bytes = fs::read(BTF).map_err(|error| format!("{BTF}: {error}"))?;
    let types = TypeInformation::new(&Bytes(bytes)).map_err(complaint)?;
    let tcp = types
        .id_of("tcp_sock")
        .ok_or_else(|| format!("{BTF} has no struct tcp_sock"))?;
    let offset = |field: &str| match types.offset_of(tcp, field).map_err(complaint)? {
        (_, Offset::ByteOffset(offset)) => Ok(offset),
        (_, Offset::BitOffsetAndSize(..)) => Err(format!("{BTF}: {field} is a bit field")),
    };
    Ok(TcpFields {
        bytes_received: offset("bytes_received")?,
        rcv_nxt: offset("rcv_nxt")?,
        copied_seq: offset("copied_seq")?,
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "what `map_err` hands over is given up"
)]
fn complaint(error: Error) -> String {
    format!("{BTF}: {}", error.message())
}

struct Bytes(Vec<u8>);

impl Readable for Bytes {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let found = self.0.get(start..end);
        let found = found.ok_or_else(|| Error::new(ErrorKind::IOError, "it ends too early"))?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All three are members of `tcp_sock` itself, which begins with a `sock` of over 600 bytes.
    #[test]
    fn this_kernel_has_the_fields() {
        let fields = tcp_fields().unwrap();
        for offset in [fields.bytes_received, fields.rcv_nxt, fields.copied_seq] {
            assert!((600..4096).contains(&offset), "{fields:?}");
        }
        assert_eq!(fields.bytes_received % 8, 0);
    }
}
