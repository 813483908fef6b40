//! Where the running kernel keeps the fields that `polite`, `track`, `refused` and `waiting` read, from its own
//! description of its types (BTF). Rust's compiler cannot emit relocations against it, so the offsets are passed to
//! the program as constants, and the verifier checks them.

use std::{fs, sync::OnceLock};

use aya::EbpfLoader;
use btfparse::{Error, ErrorKind, Integer32Value, Offset, Readable, TypeInformation, TypeVariant};
use hotlb_sys::heap::GivesBack;
use lb_common::names;

/// The constants of [`names::TCP_FIELDS`], by name: offsets in `struct tcp_sock`, in bytes.
pub(super) type TcpFields = [(&'static str, u32); names::TCP_FIELDS.len()];

/// The constants of [`names::TASK_FIELDS`], by name: offsets in `struct task_struct`, in bytes.
pub(super) type TaskFields = [(&'static str, u32); names::TASK_FIELDS.len()];

/// The constants of [`names::PACKET_FIELDS`], by name, and that of [`names::NO_SOCKET`].
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketFields {
    pub(super) offsets: [(&'static str, u32); names::PACKET_FIELDS.len()],
    pub(super) no_socket: u32,
    /// [`names::RESETS`] has the packets that no socket takes too.
    pub(super) at_resets: bool,
}

impl PacketFields {
    /// Has the programs that `loader` loads know them.
    pub(super) fn set<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        for (name, at) in &self.offsets {
            loader.override_global(name, at, true);
        }
        loader.override_global(names::NO_SOCKET.0, &self.no_socket, true);
        let at_resets: &u32 = if self.at_resets { &1 } else { &0 };
        loader.override_global(names::AT_RESETS, at_resets, true);
    }
}

const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Whether the kernel describes what it takes to tell a connection that was lost.
pub fn knows_losses() -> bool {
    tcp_fields().is_ok()
}

/// The offsets in this kernel, or why they are not known.
pub(super) fn tcp_fields() -> Result<&'static TcpFields, &'static str> {
    Ok(&known()?.0)
}

/// What is to be known of packets in this kernel, or why it is not.
pub(super) fn packet_fields() -> Result<&'static PacketFields, &'static str> {
    known()?.1.as_ref().map_err(String::as_str)
}

/// The constant [`names::TASK_FLAGS`]: 0 where it is not known.
pub(super) fn task_flags() -> &'static u32 {
    known().map_or(&0, |known| &known.2)
}

/// The constants of [`names::GROUP_FIELDS`], by name, or why they are not known.
pub(super) fn group_fields() -> Result<[(&'static str, u32); names::GROUP_FIELDS.len()], String> {
    with_types(|types| {
        let mut offsets = names::GROUP_FIELDS.map(|(name, ..)| (name, 0));
        for ((_, at), (_, structure, path)) in offsets.iter_mut().zip(names::GROUP_FIELDS) {
            *at = offset(types, structure, path)?;
        }
        Ok(offsets)
    })
}

/// The offsets in this kernel's tasks, or why they are not known.
pub(super) fn task_fields() -> Result<TaskFields, String> {
    with_types(|types| offsets(types, "task_struct", names::TASK_FIELDS))
}

type Known = (TcpFields, Result<PacketFields, String>, u32);

/// Read once: it takes some 100 ms.
fn known() -> Result<&'static Known, &'static str> {
    static FIELDS: OnceLock<Result<Known, String>> = OnceLock::new();
    let looked_up = FIELDS.get_or_init(|| with_types(look_up));
    looked_up.as_ref().map_err(String::as_str)
}

fn look_up(types: &TypeInformation) -> Result<Known, String> {
    let fields = offsets(types, "tcp_sock", names::TCP_FIELDS)?;
    let (_, path) = names::TASK_FLAGS;
    let task_flags = offset(types, "task_struct", path).unwrap_or_default();
    Ok((fields, look_up_packet(types), task_flags))
}

/// Looks something up in all of the kernel's types, which take some 60 MB meanwhile.
fn with_types<T>(look: impl FnOnce(&TypeInformation) -> Result<T, String>) -> Result<T, String> {
    let _after = GivesBack::at_the_end();
    read_types().and_then(|types| look(&types))
}

fn read_types() -> Result<TypeInformation, String> {
    let bytes = fs::read(BTF).map_err(|error| format!("{BTF}: {error}"))?;
    TypeInformation::new(&Bytes(bytes)).map_err(complaint)
}

fn offsets<const N: usize>(
    types: &TypeInformation,
    structure: &str,
    wanted: [(&'static str, &str); N],
) -> Result<[(&'static str, u32); N], String> {
    let mut fields = wanted.map(|(name, _)| (name, 0));
    for ((_, at), (_, path)) in fields.iter_mut().zip(wanted) {
        *at = offset(types, structure, path)?;
    }
    Ok(fields)
}

fn look_up_packet(types: &TypeInformation) -> Result<PacketFields, String> {
    let no_socket = reason(types).ok_or("it does not say why it drops packets (Linux 5.17)")?;
    let mut offsets = names::PACKET_FIELDS.map(|(name, ..)| (name, 0));
    for ((_, at), (_, structure, path)) in offsets.iter_mut().zip(names::PACKET_FIELDS) {
        *at = offset(types, structure, path)?;
    }
    Ok(PacketFields {
        offsets,
        no_socket,
        at_resets: has_all_resets(types).unwrap_or_default(),
    })
}

/// Whether the tracepoint has a third argument, the reason, beside its own first one: since then
/// (Linux 6.10) it has all resets.
fn has_all_resets(types: &TypeInformation) -> Option<bool> {
    let id = types.id_of(&format!("btf_trace_{}", names::RESETS))?;
    let function = types.pointee_tid(id).ok()?;
    let TypeVariant::FuncProto(function) = types.from_id(function)? else {
        return None;
    };
    Some(function.parameter_list().len() > 3)
}

fn offset(types: &TypeInformation, structure: &str, path: &str) -> Result<u32, String> {
    let id = types
        .id_of(structure)
        .ok_or_else(|| format!("{BTF} has no struct {structure}"))?;
    match types.offset_of(id, path).map_err(complaint)? {
        (_, Offset::ByteOffset(offset)) => Ok(offset),
        (_, Offset::BitOffsetAndSize(..)) => Err(format!("{BTF}: {path} is a bit field")),
    }
}

/// The number of [`names::NO_SOCKET`].
fn reason(types: &TypeInformation) -> Option<u32> {
    let reasons = types.from_id(types.id_of("skb_drop_reason")?)?;
    let TypeVariant::Enum(reasons) = reasons else {
        return None;
    };
    let mut named = reasons.named_value_list().iter();
    let found = named.find(|value| value.name == names::NO_SOCKET.1)?;
    match found.value {
        Integer32Value::Unsigned(value) => Some(value),
        Integer32Value::Signed(value) => u32::try_from(value).ok(),
    }
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

    #[test]
    fn this_kernel_says_why_it_drops_packets() {
        let fields = packet_fields().unwrap();
        assert!((1..20).contains(&fields.no_socket), "{fields:?}");
        assert!(
            fields.offsets.iter().all(|&(_, at)| at < 8192),
            "{fields:?}"
        );
    }

    #[test]
    fn this_kernel_has_the_fields_of_tasks() {
        let fields = task_fields().unwrap();
        assert!(fields.iter().all(|(_, at)| *at > 0), "{fields:?}");
    }
}
