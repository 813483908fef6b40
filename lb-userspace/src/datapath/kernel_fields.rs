//! Where the running kernel keeps the fields that `polite` and `track` read, from its own
//! description of its types (BTF). Rust's compiler cannot emit relocations against it, so the offsets are passed to
//! the program as constants, and the verifier checks them.

use std::{fs, sync::OnceLock};

use btfparse::{Error, ErrorKind, Offset, Readable, TypeInformation};
use lb_common::names;

/// The constants of [`names::TCP_FIELDS`], by name: offsets in `struct tcp_sock`, in bytes.
pub(super) type TcpFields = [(&'static str, u32); names::TCP_FIELDS.len()];

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// The offsets in this kernel, or why they are not known. Read once: it takes some 100 ms.
pub(super) fn tcp_fields() -> Result<&'static TcpFields, &'static str> {
    static FIELDS: OnceLock<Result<TcpFields, String>> = OnceLock::new();
    let fields = FIELDS.get_or_init(look_up).as_ref();
    fields.map_err(String::as_str)
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
    let mut fields = names::TCP_FIELDS.map(|(name, _)| (name, 0));
    for ((_, at), (_, path)) in fields.iter_mut().zip(names::TCP_FIELDS) {
        *at = offset(path)?;
    }
    Ok(fields)
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

    /// `tcp_sock` begins with a `sock` of over 600 bytes.
    #[test]
    fn this_kernel_has_the_fields() {
        let fields = tcp_fields().unwrap();
        for ((_, at), (_, path)) in fields.iter().zip(names::TCP_FIELDS) {
            let in_sock = path.contains(".sk.");
            assert_eq!((12..600).contains(at), in_sock, "{path} at {at}");
            assert!(*at < 4096 && at % 2 == 0, "{path} at {at}");
        }
    }
}
