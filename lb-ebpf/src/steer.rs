//! `steer`: chooses the listener of each new connection, and of each connection whose listener
//! closed while it waited.
//!
//! The choice itself is [`lb_common::choose`]. This file reads what it needs and counts. It
//! never drops: every way out is SK_PASS.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{bpf_sock, sk_action::SK_PASS},
    helpers::{
        bpf_get_smp_processor_id, bpf_get_socket_cookie, bpf_ktime_get_coarse_ns,
        bpf_sk_select_reuseport,
    },
    macros::sk_reuseport,
    programs::SkReuseportContext,
};
use lb_common::{
    ConnectionCell, Exit, FreshKey, GenerationId, Group, ListenKey, Request, SeatRow, SteeringWord,
    TicketKey, Workers, choose, client_hash, steering,
};

use crate::{
    atomic,
    maps::{
        CLOSINGS, EXITS, FRESH, FRESH_COOKIES, LISTENERS, LOADS, MOVED, ROWS, SOCKETS, STEERING,
        TICKETS,
    },
    packet,
    recent::Row,
    track,
};

/// States of a queued connection for which no `track` row exists (yet, or any more).
const TCP_CLOSE: u32 = 7;
const AF_INET: u32 = 2;
const TCP_NEW_SYN_RECV: u32 = 12;

#[sk_reuseport(migrate)]
pub fn steer(ctx: SkReuseportContext) -> u32 {
    let migrating = migrating(&ctx);
    let mut group = Slots::of(&ctx);
    let exit = match STEERING.get_ptr(0) {
        Some(row) => choose(&request(&ctx, row, !migrating.is_null()), &mut group),
        None => Exit::Unselected,
    };
    count(exit, !migrating.is_null());
    if !migrating.is_null() {
        moved(&ctx, migrating, exit, group.chosen);
    }
    SK_PASS
}

#[inline(always)]
fn migrating(ctx: &SkReuseportContext) -> *mut bpf_sock {
    // SAFETY: the context is valid for the run; reading this field has the verifier track it.
    unsafe { (*ctx.md).__bindgen_anon_4.migrating_sk }
}

/// One cell of the steering row, read once and whole.
#[inline(always)]
fn cell(row: *const [u64; steering::CELLS], index: usize) -> u64 {
    // SAFETY: `index` is a constant below CELLS and the row is aligned to eight bytes; the agent
    // stores cells whole, so a volatile read sees one value or the next.
    unsafe { row.cast::<u64>().add(index).read_volatile() }
}

/// What is known of a connection, or a datagram, that is being chosen for.
#[inline(always)]
pub fn request(
    ctx: &SkReuseportContext,
    row: *const [u64; steering::CELLS],
    migrating: bool,
) -> Request {
    let word = SteeringWord::from_bits(cell(row, steering::WORD));
    let mut request = Request {
        word,
        hash: ctx.hash(),
        client: u32::MAX,
        ticket: None,
        workers: Workers::from_bits(cell(row, steering::WORKERS)),
    };
    let ticketed = cell(row, steering::TICKETS) != 0;
    // A migrating connection comes without a packet.
    if !migrating && (ticketed || word.share.as_permille() != 0) {
        (request.client, request.ticket) = from_packet(ctx, cell(row, steering::SALT), ticketed);
    }
    request
}

/// What the packet says about the client: the hash of its address, and its ticket.
#[cold]
#[inline(never)]
fn from_packet(ctx: &SkReuseportContext, salt: u64, ticketed: bool) -> (u32, Option<GenerationId>) {
    let Some(address) = packet::source_address(ctx) else {
        return (u32::MAX, None);
    };
    let ticket = if ticketed { ticket(ctx, address) } else { None };
    (client_hash(address, salt), ticket)
}

#[inline(always)]
fn ticket(ctx: &SkReuseportContext, address: [u32; 4]) -> Option<GenerationId> {
    let key = TicketKey::from_words(address, packet::source_port(ctx)?).to_words();
    // SAFETY: the value is a copied integer; a ticket replaced meanwhile gives one or the other.
    let generation = unsafe { TICKETS.get(&key) }?;
    GenerationId::new(*generation)
}

/// The reuseport group, as the choice sees it.
pub struct Slots<'a> {
    ctx: &'a SkReuseportContext,
    chosen: Option<GenerationId>,
}

impl<'a> Slots<'a> {
    /// The group that `ctx` is called for.
    #[inline(always)]
    pub fn of(ctx: &'a SkReuseportContext) -> Self {
        Self { ctx, chosen: None }
    }
}

impl Group for Slots<'_> {
    #[inline(always)]
    fn seat(&mut self, seat: u32) -> SeatRow {
        let row = match ROWS.get_ptr(seat) {
            // SAFETY: a valid pointer to an aligned cell; the agent stores it whole.
            Some(row) => SeatRow::from_bits(unsafe { row.read_volatile() }),
            None => SeatRow::default(),
        };
        self.chosen = row.generation;
        row
    }

    #[inline(always)]
    fn select(&mut self, slot: u32) -> bool {
        let mut slot = slot;
        let map = ptr::from_ref(&SOCKETS).cast_mut().cast::<c_void>();
        // SAFETY: the context and the map are the program's own; the key lives on the stack.
        let result = unsafe {
            bpf_sk_select_reuseport(self.ctx.md, map, ptr::from_mut(&mut slot).cast(), 0)
        };
        result == 0
    }

    #[inline(always)]
    fn load(&mut self, slot: u32) -> u64 {
        match LOADS.get_ptr(slot) {
            // SAFETY: a valid pointer to an aligned cell.
            Some(load) => unsafe { load.read_volatile() },
            None => u64::MAX,
        }
    }

    #[inline(always)]
    fn cpu(&mut self) -> u32 {
        // SAFETY: the helper only reads.
        unsafe { bpf_get_smp_processor_id() }
    }

    #[inline(always)]
    fn fresh(&mut self, generation: GenerationId) -> bool {
        fresh(self.ctx, generation)
    }

    #[inline(always)]
    fn reopens(&mut self, generation: GenerationId) -> bool {
        let (Some(row), Some(closed)) = (STEERING.get_ptr(0), CLOSINGS.get_ptr(generation.seat()))
        else {
            return false;
        };
        // SAFETY: a valid pointer to an aligned cell; writers store it whole.
        let closed = unsafe { closed.read_volatile() };
        if closed == 0 {
            return false;
        }
        // SAFETY: the helper only reads.
        let now = unsafe { bpf_ktime_get_coarse_ns() };
        steering::is_reopening(closed, cell(row, steering::BEAT), now)
    }
}

/// Hands the connection to a listener of the generation that has no slot yet.
#[cold]
#[inline(never)]
fn fresh(ctx: &SkReuseportContext, generation: GenerationId) -> bool {
    // SAFETY: a field of the context, valid for the run: a socket of the group, never null.
    let socket = unsafe { (*ctx.md).__bindgen_anon_3.sk };
    // SAFETY: fields of a socket that the context holds.
    let (family, v4, port) = unsafe { ((*socket).family, (*socket).src_ip4, (*socket).src_port) };
    let address = if family == AF_INET {
        ListenKey::v4(u32::from_be(v4), port as u16)
    } else {
        // SAFETY: as above.
        let words = unsafe { &raw const (*socket).src_ip6 }.cast::<u32>();
        let word = |index| {
            // SAFETY: `index` is below four.
            u32::from_be(unsafe { words.add(index).read_volatile() })
        };
        ListenKey::v6([word(0), word(1), word(2), word(3)], port as u16)
    };
    let mut key = FreshKey {
        generation: generation.raw(),
        address,
    }
    .to_words();
    // SAFETY: the value is a copied integer.
    if unsafe { FRESH_COOKIES.get(key) }.copied() == Some(0) {
        return false; // it listens no longer: it would swallow whoever is led to it
    }
    let map = ptr::from_ref(&FRESH).cast_mut().cast::<c_void>();
    // SAFETY: the context and the map are the program's own; the key lives on the stack.
    let result = unsafe { bpf_sk_select_reuseport(ctx.md, map, ptr::from_mut(&mut key).cast(), 0) };
    result == 0
}

#[inline(always)]
fn count(exit: Exit, migrating: bool) {
    let Some(cells) = EXITS.get_ptr_mut(0) else {
        return;
    };
    let cells = cells.cast::<u64>();
    // SAFETY: both indices are below EXIT_CELLS; the row belongs to this CPU alone, and a
    // program of this type is not interrupted by another of its kind on it.
    unsafe {
        *cells.add(Exit::CALLS) += 1;
        *cells.add(exit.cell(migrating)) += 1;
    }
}

/// Keeps the books of a connection that was open and waiting when its listener closed: it was
/// counted for the old listener's generation and will be served by another.
#[cold]
#[inline(never)]
fn moved(
    ctx: &SkReuseportContext,
    connection: *mut bpf_sock,
    exit: Exit,
    chosen: Option<GenerationId>,
) {
    // SAFETY: the caller checked it for null; `state` is readable for any socket.
    let state = unsafe { (*connection).state };
    if state == TCP_NEW_SYN_RECV || state == TCP_CLOSE || exit == Exit::Unselected {
        return;
    }
    // SAFETY: both are sockets of the context, not null.
    let cookie = unsafe { bpf_get_socket_cookie(connection.cast()) };
    // SAFETY: as above; `sk` is the listener that closes.
    let listener = unsafe { bpf_get_socket_cookie((*ctx.md).__bindgen_anon_3.sk.cast()) };
    // SAFETY: the value is a copied integer.
    let Some(from) = (unsafe { LISTENERS.get(&listener) }) else {
        return; // it stays in the count it is in, where its end finds it too
    };
    let from = GenerationId::new(*from).map_or(0, GenerationId::seat);
    let to = match exit {
        Exit::Parked => None,
        _ => chosen,
    };
    if MOVED
        .insert(cookie, to.map_or(0, GenerationId::raw), 0)
        .is_err()
    {
        return;
    }
    if let Some(row) = STEERING.get_ptr_mut(0) {
        // SAFETY: the cell is aligned and within the row.
        unsafe { atomic::fetch_add(row.cast::<u64>().add(steering::MOVES), 1) };
    }
    if let Some(row) = Row::find(cookie) {
        row.turn(to.map_or(0, GenerationId::seat), row.last().said);
    }
    track::count(from, ConnectionCell::MovedOut);
    track::leave(from);
    track::count(to.map_or(0, GenerationId::seat), ConnectionCell::MovedIn);
    track::enter(to.map_or(0, GenerationId::seat));
}
