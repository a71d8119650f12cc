"""The C core, as cffi gives it to Python. Made by `make stub` from the headers: do not edit.

A class named as a C type is there for type checkers only. That of a struct stands for a pointer
to one, whose fields Python reads through it; that of a number for an int or a float.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Generic, Literal, TypeVar, overload, type_check_only

from numpy.typing import NDArray
from typing_extensions import Buffer

_T = TypeVar("_T")
_Data = TypeVar("_Data", bound=CData)
_Buffer = Buffer | NDArray[Any]  # an array is a Buffer only from Python 3.12 on

@type_check_only
class CData:
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@type_check_only
class Null(CData): ...

@type_check_only
class Pointer(CData, Generic[_T]):
    def __getitem__(self, index: int, /) -> _T: ...
    def __setitem__(self, index: int, value: _T, /) -> None: ...

@type_check_only
class Array(Pointer[_T]):
    """C memory whose length is known."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[_T]: ...

@type_check_only
class CType(Generic[_T]): ...

@type_check_only
class char(bytes): ...

@type_check_only
class double(float): ...

@type_check_only
class int32_t(int): ...

@type_check_only
class int64_t(int): ...

@type_check_only
class size_t(int): ...

@type_check_only
class uint32_t(int): ...

@type_check_only
class uint64_t(int): ...

@type_check_only
class uint8_t(int): ...

@type_check_only
class mpat_collection(CData):
    start_ns: int
    end_ns: int
    collect_ns: int
    lost_pages: int
    ring_entries: int

@type_check_only
class mpat_distinct(CData): ...

@type_check_only
class mpat_groups(CData):
    n_groups: int
    dirty: Pointer[uint32_t]
    redirtied: Pointer[uint32_t]
    fresh: Pointer[uint32_t]
    touched: Pointer[uint32_t]
    active_intervals: Pointer[uint32_t]
    streak: Pointer[uint32_t]
    last_active: Pointer[int32_t]
    dirty_total: Pointer[uint64_t]

@type_check_only
class mpat_history(CData): ...

@type_check_only
class mpat_kvm_fault(CData):
    slot: int
    page: int
    call: Pointer[char]

@type_check_only
class mpat_kvm_log(CData): ...

@type_check_only
class mpat_kvm_ring(CData): ...

@type_check_only
class mpat_mapping(CData):
    start: int
    end: int
    first_page: int
    region: int
    page_shift: int
    flags: int

@type_check_only
class mpat_memslot(CData):
    slot: int
    n_pages: int

@type_check_only
class mpat_microvm(CData): ...

@type_check_only
class mpat_microvm_config(CData):
    image: CData
    image_bytes: int
    slot_pages: Pointer[uint64_t]
    n_slots: int
    cmdlines: Pointer[Pointer[char]]
    n_vcpus: int
    log: int
    ring_entries: int

@type_check_only
class mpat_microvm_state(CData):
    steps: int
    running: int
    finished: int
    error: int
    exit_reason: int
    exit_rip: int

@type_check_only
class mpat_origin(CData):
    region: int
    page: int

@type_check_only
class mpat_precopy(CData): ...

@type_check_only
class mpat_process(CData): ...

@type_check_only
class mpat_process_collection(CData):
    start_ns: int
    end_ns: int
    collect_ns: int
    lost_pages: int
    written_pages: int
    huge_bytes: int

@type_check_only
class mpat_process_fault(CData):
    call: Pointer[char]
    address: int

@type_check_only
class mpat_ramblock(CData):
    name: Array[char]
    n_pages: int

@type_check_only
class mpat_ramstream(CData): ...

@type_check_only
class mpat_ramstream_pass(CData):
    start_ns: int
    end_ns: int
    first: int
    n_passes: int
    pages: int
    zero_pages: int

@type_check_only
class mpat_ramstream_state(CData):
    n_blocks: int
    page_bytes: int
    stopped: int
    closed: int
    passes: int
    untaken: int
    bytes: int

@type_check_only
class mpat_recording(CData): ...

@type_check_only
class mpat_seen(CData):
    dirty_pages: int
    redirtied_pages: int
    fresh_pages: int
    active_groups: int
    runs: int

@type_check_only
class mpat_sent(CData):
    pages: int
    zero_pages: int
    cost: float

@type_check_only
class mpat_stats(CData): ...

@type_check_only
class mpat_window(CData):
    n_intervals: int
    n_windows: int
    duration_s: float
    duration_std_s: float
    pages: float
    pages_std: float

@type_check_only
class FFI:
    NULL: Final[Null]
    def gc(self, cdata: _Data, destructor: Callable[[_Data], object], size: int = 0) -> _Data: ...
    def string(self, cdata: Pointer[char], maxlen: int = -1) -> bytes: ...
    def buffer(self, cdata: CData, size: int = -1) -> memoryview: ...
    @overload
    def new(self, cdecl: CType[_T], init: object = ...) -> _T: ...
    @overload
    def new(self, cdecl: Literal["char[]"], init: object = ...) -> Array[char]: ...
    @overload
    def new(self, cdecl: Literal["double[]"], init: object = ...) -> Array[double]: ...
    @overload
    def new(self, cdecl: Literal["int32_t[]"], init: object = ...) -> Array[int32_t]: ...
    @overload
    def new(self, cdecl: Literal["int64_t[]"], init: object = ...) -> Array[int64_t]: ...
    @overload
    def new(self, cdecl: Literal["size_t[]"], init: object = ...) -> Array[size_t]: ...
    @overload
    def new(self, cdecl: Literal["uint32_t[]"], init: object = ...) -> Array[uint32_t]: ...
    @overload
    def new(self, cdecl: Literal["uint64_t[]"], init: object = ...) -> Array[uint64_t]: ...
    @overload
    def new(self, cdecl: Literal["uint8_t[]"], init: object = ...) -> Array[uint8_t]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_collection[]"], init: object = ...
    ) -> Array[mpat_collection]: ...
    @overload
    def new(self, cdecl: Literal["mpat_groups[]"], init: object = ...) -> Array[mpat_groups]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_kvm_fault[]"], init: object = ...
    ) -> Array[mpat_kvm_fault]: ...
    @overload
    def new(self, cdecl: Literal["mpat_mapping[]"], init: object = ...) -> Array[mpat_mapping]: ...
    @overload
    def new(self, cdecl: Literal["mpat_memslot[]"], init: object = ...) -> Array[mpat_memslot]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_microvm_config[]"], init: object = ...
    ) -> Array[mpat_microvm_config]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_microvm_state[]"], init: object = ...
    ) -> Array[mpat_microvm_state]: ...
    @overload
    def new(self, cdecl: Literal["mpat_origin[]"], init: object = ...) -> Array[mpat_origin]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_process_collection[]"], init: object = ...
    ) -> Array[mpat_process_collection]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_process_fault[]"], init: object = ...
    ) -> Array[mpat_process_fault]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_ramblock[]"], init: object = ...
    ) -> Array[mpat_ramblock]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_ramstream_pass[]"], init: object = ...
    ) -> Array[mpat_ramstream_pass]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_ramstream_state[]"], init: object = ...
    ) -> Array[mpat_ramstream_state]: ...
    @overload
    def new(self, cdecl: Literal["mpat_seen[]"], init: object = ...) -> Array[mpat_seen]: ...
    @overload
    def new(self, cdecl: Literal["mpat_sent[]"], init: object = ...) -> Array[mpat_sent]: ...
    @overload
    def new(self, cdecl: Literal["mpat_window[]"], init: object = ...) -> Array[mpat_window]: ...
    @overload
    def new(self, cdecl: Literal["char *[]"], init: object = ...) -> Array[Pointer[char]]: ...
    @overload
    def new(self, cdecl: Literal["double *[]"], init: object = ...) -> Array[Pointer[double]]: ...
    @overload
    def new(self, cdecl: Literal["int32_t *[]"], init: object = ...) -> Array[Pointer[int32_t]]: ...
    @overload
    def new(self, cdecl: Literal["int64_t *[]"], init: object = ...) -> Array[Pointer[int64_t]]: ...
    @overload
    def new(self, cdecl: Literal["size_t *[]"], init: object = ...) -> Array[Pointer[size_t]]: ...
    @overload
    def new(
        self, cdecl: Literal["uint32_t *[]"], init: object = ...
    ) -> Array[Pointer[uint32_t]]: ...
    @overload
    def new(
        self, cdecl: Literal["uint64_t *[]"], init: object = ...
    ) -> Array[Pointer[uint64_t]]: ...
    @overload
    def new(self, cdecl: Literal["uint8_t *[]"], init: object = ...) -> Array[Pointer[uint8_t]]: ...
    @overload
    def new(self, cdecl: Literal["char *"], init: object = ...) -> Pointer[char]: ...
    @overload
    def new(self, cdecl: Literal["double *"], init: object = ...) -> Pointer[double]: ...
    @overload
    def new(self, cdecl: Literal["int32_t *"], init: object = ...) -> Pointer[int32_t]: ...
    @overload
    def new(self, cdecl: Literal["int64_t *"], init: object = ...) -> Pointer[int64_t]: ...
    @overload
    def new(self, cdecl: Literal["size_t *"], init: object = ...) -> Pointer[size_t]: ...
    @overload
    def new(self, cdecl: Literal["uint32_t *"], init: object = ...) -> Pointer[uint32_t]: ...
    @overload
    def new(self, cdecl: Literal["uint64_t *"], init: object = ...) -> Pointer[uint64_t]: ...
    @overload
    def new(self, cdecl: Literal["uint8_t *"], init: object = ...) -> Pointer[uint8_t]: ...
    @overload
    def new(self, cdecl: Literal["char **"], init: object = ...) -> Pointer[Pointer[char]]: ...
    @overload
    def new(self, cdecl: Literal["double **"], init: object = ...) -> Pointer[Pointer[double]]: ...
    @overload
    def new(
        self, cdecl: Literal["int32_t **"], init: object = ...
    ) -> Pointer[Pointer[int32_t]]: ...
    @overload
    def new(
        self, cdecl: Literal["int64_t **"], init: object = ...
    ) -> Pointer[Pointer[int64_t]]: ...
    @overload
    def new(self, cdecl: Literal["size_t **"], init: object = ...) -> Pointer[Pointer[size_t]]: ...
    @overload
    def new(
        self, cdecl: Literal["uint32_t **"], init: object = ...
    ) -> Pointer[Pointer[uint32_t]]: ...
    @overload
    def new(
        self, cdecl: Literal["uint64_t **"], init: object = ...
    ) -> Pointer[Pointer[uint64_t]]: ...
    @overload
    def new(
        self, cdecl: Literal["uint8_t **"], init: object = ...
    ) -> Pointer[Pointer[uint8_t]]: ...
    @overload
    def new(self, cdecl: Literal["mpat_collection *"], init: object = ...) -> mpat_collection: ...
    @overload
    def new(self, cdecl: Literal["mpat_groups *"], init: object = ...) -> mpat_groups: ...
    @overload
    def new(self, cdecl: Literal["mpat_kvm_fault *"], init: object = ...) -> mpat_kvm_fault: ...
    @overload
    def new(self, cdecl: Literal["mpat_mapping *"], init: object = ...) -> mpat_mapping: ...
    @overload
    def new(self, cdecl: Literal["mpat_memslot *"], init: object = ...) -> mpat_memslot: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_microvm_config *"], init: object = ...
    ) -> mpat_microvm_config: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_microvm_state *"], init: object = ...
    ) -> mpat_microvm_state: ...
    @overload
    def new(self, cdecl: Literal["mpat_origin *"], init: object = ...) -> mpat_origin: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_process_collection *"], init: object = ...
    ) -> mpat_process_collection: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_process_fault *"], init: object = ...
    ) -> mpat_process_fault: ...
    @overload
    def new(self, cdecl: Literal["mpat_ramblock *"], init: object = ...) -> mpat_ramblock: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_ramstream_pass *"], init: object = ...
    ) -> mpat_ramstream_pass: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_ramstream_state *"], init: object = ...
    ) -> mpat_ramstream_state: ...
    @overload
    def new(self, cdecl: Literal["mpat_seen *"], init: object = ...) -> mpat_seen: ...
    @overload
    def new(self, cdecl: Literal["mpat_sent *"], init: object = ...) -> mpat_sent: ...
    @overload
    def new(self, cdecl: Literal["mpat_window *"], init: object = ...) -> mpat_window: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_distinct **"], init: object = ...
    ) -> Pointer[mpat_distinct]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_history **"], init: object = ...
    ) -> Pointer[mpat_history]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_kvm_log **"], init: object = ...
    ) -> Pointer[mpat_kvm_log]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_kvm_ring **"], init: object = ...
    ) -> Pointer[mpat_kvm_ring]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_microvm **"], init: object = ...
    ) -> Pointer[mpat_microvm]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_precopy **"], init: object = ...
    ) -> Pointer[mpat_precopy]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_process **"], init: object = ...
    ) -> Pointer[mpat_process]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_ramstream **"], init: object = ...
    ) -> Pointer[mpat_ramstream]: ...
    @overload
    def new(
        self, cdecl: Literal["mpat_recording **"], init: object = ...
    ) -> Pointer[mpat_recording]: ...
    @overload
    def new(self, cdecl: Literal["mpat_stats **"], init: object = ...) -> Pointer[mpat_stats]: ...
    @overload
    def typeof(self, cdecl: Literal["char[]"]) -> CType[Array[char]]: ...
    @overload
    def typeof(self, cdecl: Literal["double[]"]) -> CType[Array[double]]: ...
    @overload
    def typeof(self, cdecl: Literal["int32_t[]"]) -> CType[Array[int32_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["int64_t[]"]) -> CType[Array[int64_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["size_t[]"]) -> CType[Array[size_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint32_t[]"]) -> CType[Array[uint32_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint64_t[]"]) -> CType[Array[uint64_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint8_t[]"]) -> CType[Array[uint8_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_collection[]"]) -> CType[Array[mpat_collection]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_groups[]"]) -> CType[Array[mpat_groups]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_kvm_fault[]"]) -> CType[Array[mpat_kvm_fault]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_mapping[]"]) -> CType[Array[mpat_mapping]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_memslot[]"]) -> CType[Array[mpat_memslot]]: ...
    @overload
    def typeof(
        self, cdecl: Literal["mpat_microvm_config[]"]
    ) -> CType[Array[mpat_microvm_config]]: ...
    @overload
    def typeof(
        self, cdecl: Literal["mpat_microvm_state[]"]
    ) -> CType[Array[mpat_microvm_state]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_origin[]"]) -> CType[Array[mpat_origin]]: ...
    @overload
    def typeof(
        self, cdecl: Literal["mpat_process_collection[]"]
    ) -> CType[Array[mpat_process_collection]]: ...
    @overload
    def typeof(
        self, cdecl: Literal["mpat_process_fault[]"]
    ) -> CType[Array[mpat_process_fault]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_ramblock[]"]) -> CType[Array[mpat_ramblock]]: ...
    @overload
    def typeof(
        self, cdecl: Literal["mpat_ramstream_pass[]"]
    ) -> CType[Array[mpat_ramstream_pass]]: ...
    @overload
    def typeof(
        self, cdecl: Literal["mpat_ramstream_state[]"]
    ) -> CType[Array[mpat_ramstream_state]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_seen[]"]) -> CType[Array[mpat_seen]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_sent[]"]) -> CType[Array[mpat_sent]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_window[]"]) -> CType[Array[mpat_window]]: ...
    @overload
    def typeof(self, cdecl: Literal["char *[]"]) -> CType[Array[Pointer[char]]]: ...
    @overload
    def typeof(self, cdecl: Literal["double *[]"]) -> CType[Array[Pointer[double]]]: ...
    @overload
    def typeof(self, cdecl: Literal["int32_t *[]"]) -> CType[Array[Pointer[int32_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["int64_t *[]"]) -> CType[Array[Pointer[int64_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["size_t *[]"]) -> CType[Array[Pointer[size_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint32_t *[]"]) -> CType[Array[Pointer[uint32_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint64_t *[]"]) -> CType[Array[Pointer[uint64_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint8_t *[]"]) -> CType[Array[Pointer[uint8_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["char *"]) -> CType[Pointer[char]]: ...
    @overload
    def typeof(self, cdecl: Literal["double *"]) -> CType[Pointer[double]]: ...
    @overload
    def typeof(self, cdecl: Literal["int32_t *"]) -> CType[Pointer[int32_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["int64_t *"]) -> CType[Pointer[int64_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["size_t *"]) -> CType[Pointer[size_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint32_t *"]) -> CType[Pointer[uint32_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint64_t *"]) -> CType[Pointer[uint64_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint8_t *"]) -> CType[Pointer[uint8_t]]: ...
    @overload
    def typeof(self, cdecl: Literal["char **"]) -> CType[Pointer[Pointer[char]]]: ...
    @overload
    def typeof(self, cdecl: Literal["double **"]) -> CType[Pointer[Pointer[double]]]: ...
    @overload
    def typeof(self, cdecl: Literal["int32_t **"]) -> CType[Pointer[Pointer[int32_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["int64_t **"]) -> CType[Pointer[Pointer[int64_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["size_t **"]) -> CType[Pointer[Pointer[size_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint32_t **"]) -> CType[Pointer[Pointer[uint32_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint64_t **"]) -> CType[Pointer[Pointer[uint64_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["uint8_t **"]) -> CType[Pointer[Pointer[uint8_t]]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_collection *"]) -> CType[mpat_collection]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_groups *"]) -> CType[mpat_groups]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_kvm_fault *"]) -> CType[mpat_kvm_fault]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_mapping *"]) -> CType[mpat_mapping]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_memslot *"]) -> CType[mpat_memslot]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_microvm_config *"]) -> CType[mpat_microvm_config]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_microvm_state *"]) -> CType[mpat_microvm_state]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_origin *"]) -> CType[mpat_origin]: ...
    @overload
    def typeof(
        self, cdecl: Literal["mpat_process_collection *"]
    ) -> CType[mpat_process_collection]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_process_fault *"]) -> CType[mpat_process_fault]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_ramblock *"]) -> CType[mpat_ramblock]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_ramstream_pass *"]) -> CType[mpat_ramstream_pass]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_ramstream_state *"]) -> CType[mpat_ramstream_state]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_seen *"]) -> CType[mpat_seen]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_sent *"]) -> CType[mpat_sent]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_window *"]) -> CType[mpat_window]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_distinct **"]) -> CType[Pointer[mpat_distinct]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_history **"]) -> CType[Pointer[mpat_history]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_kvm_log **"]) -> CType[Pointer[mpat_kvm_log]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_kvm_ring **"]) -> CType[Pointer[mpat_kvm_ring]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_microvm **"]) -> CType[Pointer[mpat_microvm]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_precopy **"]) -> CType[Pointer[mpat_precopy]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_process **"]) -> CType[Pointer[mpat_process]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_ramstream **"]) -> CType[Pointer[mpat_ramstream]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_recording **"]) -> CType[Pointer[mpat_recording]]: ...
    @overload
    def typeof(self, cdecl: Literal["mpat_stats **"]) -> CType[Pointer[mpat_stats]]: ...
    @overload
    def from_buffer(self, cdecl: CType[_T], python_buffer: _Buffer) -> _T: ...
    @overload
    def from_buffer(self, cdecl: _Buffer) -> Any: ...
    @overload
    def from_buffer(self, cdecl: Literal["char[]"], python_buffer: _Buffer) -> Array[char]: ...
    @overload
    def from_buffer(self, cdecl: Literal["double[]"], python_buffer: _Buffer) -> Array[double]: ...
    @overload
    def from_buffer(
        self, cdecl: Literal["int32_t[]"], python_buffer: _Buffer
    ) -> Array[int32_t]: ...
    @overload
    def from_buffer(
        self, cdecl: Literal["int64_t[]"], python_buffer: _Buffer
    ) -> Array[int64_t]: ...
    @overload
    def from_buffer(self, cdecl: Literal["size_t[]"], python_buffer: _Buffer) -> Array[size_t]: ...
    @overload
    def from_buffer(
        self, cdecl: Literal["uint32_t[]"], python_buffer: _Buffer
    ) -> Array[uint32_t]: ...
    @overload
    def from_buffer(
        self, cdecl: Literal["uint64_t[]"], python_buffer: _Buffer
    ) -> Array[uint64_t]: ...
    @overload
    def from_buffer(
        self, cdecl: Literal["uint8_t[]"], python_buffer: _Buffer
    ) -> Array[uint8_t]: ...
    @overload
    def cast(self, cdecl: Literal["uintptr_t"], value: CData | int) -> int: ...
    @overload
    def cast(self, cdecl: Literal["char *"], value: CData | int) -> Pointer[char]: ...
    @overload
    def cast(self, cdecl: Literal["double *"], value: CData | int) -> Pointer[double]: ...
    @overload
    def cast(self, cdecl: Literal["int32_t *"], value: CData | int) -> Pointer[int32_t]: ...
    @overload
    def cast(self, cdecl: Literal["int64_t *"], value: CData | int) -> Pointer[int64_t]: ...
    @overload
    def cast(self, cdecl: Literal["size_t *"], value: CData | int) -> Pointer[size_t]: ...
    @overload
    def cast(self, cdecl: Literal["uint32_t *"], value: CData | int) -> Pointer[uint32_t]: ...
    @overload
    def cast(self, cdecl: Literal["uint64_t *"], value: CData | int) -> Pointer[uint64_t]: ...
    @overload
    def cast(self, cdecl: Literal["uint8_t *"], value: CData | int) -> Pointer[uint8_t]: ...
    @overload
    def cast(self, cdecl: Literal["mpat_collection *"], value: CData | int) -> mpat_collection: ...
    @overload
    def cast(self, cdecl: Literal["mpat_groups *"], value: CData | int) -> mpat_groups: ...
    @overload
    def cast(self, cdecl: Literal["mpat_kvm_fault *"], value: CData | int) -> mpat_kvm_fault: ...
    @overload
    def cast(self, cdecl: Literal["mpat_mapping *"], value: CData | int) -> mpat_mapping: ...
    @overload
    def cast(self, cdecl: Literal["mpat_memslot *"], value: CData | int) -> mpat_memslot: ...
    @overload
    def cast(
        self, cdecl: Literal["mpat_microvm_config *"], value: CData | int
    ) -> mpat_microvm_config: ...
    @overload
    def cast(
        self, cdecl: Literal["mpat_microvm_state *"], value: CData | int
    ) -> mpat_microvm_state: ...
    @overload
    def cast(self, cdecl: Literal["mpat_origin *"], value: CData | int) -> mpat_origin: ...
    @overload
    def cast(
        self, cdecl: Literal["mpat_process_collection *"], value: CData | int
    ) -> mpat_process_collection: ...
    @overload
    def cast(
        self, cdecl: Literal["mpat_process_fault *"], value: CData | int
    ) -> mpat_process_fault: ...
    @overload
    def cast(self, cdecl: Literal["mpat_ramblock *"], value: CData | int) -> mpat_ramblock: ...
    @overload
    def cast(
        self, cdecl: Literal["mpat_ramstream_pass *"], value: CData | int
    ) -> mpat_ramstream_pass: ...
    @overload
    def cast(
        self, cdecl: Literal["mpat_ramstream_state *"], value: CData | int
    ) -> mpat_ramstream_state: ...
    @overload
    def cast(self, cdecl: Literal["mpat_seen *"], value: CData | int) -> mpat_seen: ...
    @overload
    def cast(self, cdecl: Literal["mpat_sent *"], value: CData | int) -> mpat_sent: ...
    @overload
    def cast(self, cdecl: Literal["mpat_window *"], value: CData | int) -> mpat_window: ...

@type_check_only
class Lib:
    MPAT_KVM_INITIALLY_SET: Final = 2
    MPAT_KVM_MANUAL_PROTECT: Final = 1
    MPAT_MAPPING_PRIVATE_FILE: Final = 1
    MPAT_MICROVM_FIRST_SLOT: Final = 1
    MPAT_MICROVM_INITIALLY_SET: Final = 2
    MPAT_MICROVM_LOG: Final = 0
    MPAT_MICROVM_MANUAL: Final = 1
    MPAT_MICROVM_MAX_CMDLINE: Final = 2048
    MPAT_MICROVM_MAX_VCPUS: Final = 8
    MPAT_MICROVM_RAM_BASE: Final = 16777216
    MPAT_MICROVM_RING: Final = 3
    MPAT_PROCESS_KEEP_HUGE: Final = 1
    MPAT_RAMSTREAM_NAME: Final = 256
    @staticmethod
    def mpat_bitmap_alloc(n_pages: int, out: Pointer[Pointer[uint64_t]] | Null, /) -> int: ...
    @staticmethod
    def mpat_bitmap_free(bitmap: Pointer[uint64_t] | Null, n_pages: int, /) -> None: ...
    @staticmethod
    def mpat_bitmap_pages(
        bitmap: Pointer[uint64_t] | Null | Sequence[int],
        n_pages: int,
        pages: Pointer[int64_t] | Null,
        room: int,
        n_dirty: Pointer[uint64_t] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_bitmap_seen(
        bitmap: Pointer[uint64_t] | Null | Sequence[int],
        previous: Pointer[uint64_t] | Null | Sequence[int],
        ever: Pointer[uint64_t] | Null,
        n_pages: int,
        seen: mpat_seen | Array[mpat_seen] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_bitmap_words(n_pages: int, /) -> int: ...
    @staticmethod
    def mpat_distinct_break(distinct: mpat_distinct | Null, /) -> int: ...
    @staticmethod
    def mpat_distinct_bytes(distinct: mpat_distinct | Null, /) -> int: ...
    @staticmethod
    def mpat_distinct_create(
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        n_regions: int,
        group_pages: int,
        out: Pointer[mpat_distinct] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_distinct_destroy(distinct: mpat_distinct | Null, /) -> None: ...
    @staticmethod
    def mpat_distinct_follow(
        distinct: mpat_distinct | Null,
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        n_regions: int,
        origins: mpat_origin | Array[mpat_origin] | Null | Sequence[tuple[int, ...]],
        out: Pointer[mpat_distinct] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_distinct_groups(
        distinct: mpat_distinct | Null,
        window: int,
        region: int,
        pages: Pointer[double] | Null,
        pages_std: Pointer[double] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_distinct_update(
        distinct: mpat_distinct | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null | Sequence[Pointer[uint64_t]],
        duration_s: float,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_distinct_update_all(
        distinct: mpat_distinct | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null | Sequence[Pointer[uint64_t]],
        durations_s: Pointer[double] | Null | Sequence[float],
        n: int,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_distinct_window(
        distinct: mpat_distinct | Null,
        window: int,
        region: int,
        out: mpat_window | Array[mpat_window] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_distinct_windows(distinct: mpat_distinct | Null, /) -> int: ...
    @staticmethod
    def mpat_group_counts(
        bitmap: Pointer[uint64_t] | Null | Sequence[int],
        n_pages: int,
        group_pages: int,
        counts: Pointer[uint32_t] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_history_bytes(history: mpat_history | Null, /) -> int: ...
    @staticmethod
    def mpat_history_create(
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        n_regions: int,
        depth: int,
        out: Pointer[mpat_history] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_history_destroy(history: mpat_history | Null, /) -> None: ...
    @staticmethod
    def mpat_history_distinct_pages(
        history: mpat_history | Null, last: int, out: Pointer[uint64_t] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_history_follow(
        history: mpat_history | Null,
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        n_regions: int,
        origins: mpat_origin | Array[mpat_origin] | Null | Sequence[tuple[int, ...]],
        out: Pointer[mpat_history] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_history_hot_pages(
        history: mpat_history | Null, region: int, at_least: int, out: Pointer[uint64_t] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_history_length(history: mpat_history | Null, /) -> int: ...
    @staticmethod
    def mpat_history_update(
        history: mpat_history | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null | Sequence[Pointer[uint64_t]],
        /,
    ) -> int: ...
    @staticmethod
    def mpat_kernel_active() -> Pointer[char]: ...
    @staticmethod
    def mpat_kernel_available(i: int, /) -> Pointer[char]: ...
    @staticmethod
    def mpat_kernel_use(name: Pointer[char] | Null | bytes, /) -> int: ...
    @staticmethod
    def mpat_kvm_log_close(log: mpat_kvm_log | Null, /) -> None: ...
    @staticmethod
    def mpat_kvm_log_collect(
        log: mpat_kvm_log | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null,
        out: mpat_collection | Array[mpat_collection] | Null,
        fault: mpat_kvm_fault | Array[mpat_kvm_fault] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_kvm_log_open(
        vm_fd: int,
        slots: mpat_memslot | Array[mpat_memslot] | Null | Sequence[tuple[int, ...]],
        n_slots: int,
        flags: int,
        out: Pointer[mpat_kvm_log] | Null,
        fault: mpat_kvm_fault | Array[mpat_kvm_fault] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_kvm_ring_close(ring: mpat_kvm_ring | Null, /) -> None: ...
    @staticmethod
    def mpat_kvm_ring_collect(
        ring: mpat_kvm_ring | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null,
        out: mpat_collection | Array[mpat_collection] | Null,
        fault: mpat_kvm_fault | Array[mpat_kvm_fault] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_kvm_ring_drain(
        ring: mpat_kvm_ring | Null, fault: mpat_kvm_fault | Array[mpat_kvm_fault] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_kvm_ring_open(
        vm_fd: int,
        vcpu_fds: Pointer[int] | Null | Sequence[int],
        n_vcpus: int,
        slots: mpat_memslot | Array[mpat_memslot] | Null | Sequence[tuple[int, ...]],
        n_slots: int,
        ring_entries: int,
        out: Pointer[mpat_kvm_ring] | Null,
        fault: mpat_kvm_fault | Array[mpat_kvm_fault] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_microvm_console(
        vm: mpat_microvm | Null, out: Pointer[char] | Null, n: int, /
    ) -> int: ...
    @staticmethod
    def mpat_microvm_create(
        config: mpat_microvm_config | Array[mpat_microvm_config] | Null | Sequence[tuple[int, ...]],
        out: Pointer[mpat_microvm] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_microvm_destroy(vm: mpat_microvm | Null, /) -> None: ...
    @staticmethod
    def mpat_microvm_get_state(
        vm: mpat_microvm | Null,
        vcpu: int,
        out: mpat_microvm_state | Array[mpat_microvm_state] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_microvm_kick(vm: mpat_microvm | Null, /) -> int: ...
    @staticmethod
    def mpat_microvm_memory(vm: mpat_microvm | Null, slot_index: int, /) -> CData: ...
    @staticmethod
    def mpat_microvm_pause(vm: mpat_microvm | Null, /) -> int: ...
    @staticmethod
    def mpat_microvm_reboot(
        vm: mpat_microvm | Null,
        cmdlines: Pointer[Pointer[char]] | Null | Sequence[Pointer[char]],
        /,
    ) -> int: ...
    @staticmethod
    def mpat_microvm_resume(vm: mpat_microvm | Null, /) -> int: ...
    @staticmethod
    def mpat_microvm_set_ring(vm: mpat_microvm | Null, ring: mpat_kvm_ring | Null, /) -> int: ...
    @staticmethod
    def mpat_microvm_step(vm: mpat_microvm | Null, n_steps: int, timeout_ns: int, /) -> int: ...
    @staticmethod
    def mpat_microvm_vcpu_fd(vm: mpat_microvm | Null, vcpu: int, /) -> int: ...
    @staticmethod
    def mpat_microvm_vm_fd(vm: mpat_microvm | Null, /) -> int: ...
    @staticmethod
    def mpat_precopy_bytes(precopy: mpat_precopy | Null, /) -> int: ...
    @staticmethod
    def mpat_precopy_create(
        recording: mpat_recording | Null, chunk_pages: int, out: Pointer[mpat_precopy] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_precopy_defer(
        precopy: mpat_precopy | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null | Sequence[Pointer[uint64_t]],
        /,
    ) -> int: ...
    @staticmethod
    def mpat_precopy_deferred(precopy: mpat_precopy | Null, /) -> int: ...
    @staticmethod
    def mpat_precopy_destroy(precopy: mpat_precopy | Null, /) -> None: ...
    @staticmethod
    def mpat_precopy_found(
        precopy: mpat_precopy | Null, bitmaps: Pointer[Pointer[uint64_t]] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_precopy_outstanding(
        precopy: mpat_precopy | Null,
        pages: Pointer[uint64_t] | Null,
        zero_pages: Pointer[uint64_t] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_precopy_run(precopy: mpat_precopy | Null, duration: float, /) -> int: ...
    @staticmethod
    def mpat_precopy_send(
        precopy: mpat_precopy | Null,
        budget: float,
        page_cost: float,
        zero_cost: float,
        out: mpat_sent | Array[mpat_sent] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_precopy_start(
        precopy: mpat_precopy | Null,
        zero: Pointer[Pointer[uint64_t]] | Null | Sequence[Pointer[uint64_t]],
        at: float,
        seed: int,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_precopy_sync(
        precopy: mpat_precopy | Null, pending_pages: Pointer[uint64_t] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_process_close(process: mpat_process | Null, /) -> None: ...
    @staticmethod
    def mpat_process_collect(
        process: mpat_process | Null,
        mappings: mpat_mapping | Array[mpat_mapping] | Null | Sequence[tuple[int, ...]],
        n_mappings: int,
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        bitmaps: Pointer[Pointer[uint64_t]] | Null,
        n_regions: int,
        out: mpat_process_collection | Array[mpat_process_collection] | Null,
        fault: mpat_process_fault | Array[mpat_process_fault] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_process_open(
        pid: int,
        flags: int,
        out: Pointer[mpat_process] | Null,
        fault: mpat_process_fault | Array[mpat_process_fault] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_process_probe(
        fault: mpat_process_fault | Array[mpat_process_fault] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_process_protect(
        process: mpat_process | Null,
        mappings: mpat_mapping | Array[mpat_mapping] | Null | Sequence[tuple[int, ...]],
        n_mappings: int,
        huge_bytes: Pointer[uint64_t] | Null,
        fault: mpat_process_fault | Array[mpat_process_fault] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_process_stopped_ns(process: mpat_process | Null, /) -> int: ...
    @staticmethod
    def mpat_ramstream_block(
        stream: mpat_ramstream | Null, i: int, out: mpat_ramblock | Array[mpat_ramblock] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_ramstream_create(most_pages: int, out: Pointer[mpat_ramstream] | Null, /) -> int: ...
    @staticmethod
    def mpat_ramstream_destroy(stream: mpat_ramstream | Null, /) -> None: ...
    @staticmethod
    def mpat_ramstream_feed(
        stream: mpat_ramstream | Null,
        bytes: Pointer[uint8_t] | Null | bytes,
        n_bytes: int,
        now_ns: int,
        n_used: Pointer[size_t] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_ramstream_problem(stream: mpat_ramstream | Null, /) -> Pointer[char]: ...
    @staticmethod
    def mpat_ramstream_read(
        stream: mpat_ramstream | Null,
        socket: int,
        out: mpat_ramstream_state | Array[mpat_ramstream_state] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_ramstream_state_of(
        stream: mpat_ramstream | Null,
        out: mpat_ramstream_state | Array[mpat_ramstream_state] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_ramstream_take(
        stream: mpat_ramstream | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null,
        out: mpat_ramstream_pass | Array[mpat_ramstream_pass] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_ramstream_zeros(
        stream: mpat_ramstream | Null, bitmaps: Pointer[Pointer[uint64_t]] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_recording_add(
        recording: mpat_recording | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null | Sequence[Pointer[uint64_t]],
        duration: float,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_recording_bytes(recording: mpat_recording | Null, /) -> int: ...
    @staticmethod
    def mpat_recording_create(
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        n_regions: int,
        out: Pointer[mpat_recording] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_recording_destroy(recording: mpat_recording | Null, /) -> None: ...
    @staticmethod
    def mpat_recording_ever(
        recording: mpat_recording | Null, bitmaps: Pointer[Pointer[uint64_t]] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_recording_read(
        recording: mpat_recording | Null,
        interval: int,
        bitmaps: Pointer[Pointer[uint64_t]] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_recording_seal(recording: mpat_recording | Null, loop: int, /) -> int: ...
    @staticmethod
    def mpat_stats_bytes(stats: mpat_stats | Null, /) -> int: ...
    @staticmethod
    def mpat_stats_create(
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        n_regions: int,
        group_pages: int,
        half_life_s: float,
        history: mpat_history | Null,
        out: Pointer[mpat_stats] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_stats_destroy(stats: mpat_stats | Null, /) -> None: ...
    @staticmethod
    def mpat_stats_follow(
        stats: mpat_stats | Null,
        region_pages: Pointer[uint64_t] | Null | Sequence[int],
        n_regions: int,
        origins: mpat_origin | Array[mpat_origin] | Null | Sequence[tuple[int, ...]],
        history: Pointer[mpat_history] | Null,
        out: Pointer[mpat_stats] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_stats_groups(
        stats: mpat_stats | Null, region: int, out: mpat_groups | Array[mpat_groups] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_stats_update(
        stats: mpat_stats | Null,
        bitmaps: Pointer[Pointer[uint64_t]] | Null | Sequence[Pointer[uint64_t]],
        duration_s: float,
        seen: mpat_seen | Array[mpat_seen] | Null,
        /,
    ) -> int: ...
    @staticmethod
    def mpat_stats_write_rate(
        stats: mpat_stats | Null, region: int, out: Pointer[double] | Null, /
    ) -> int: ...
    @staticmethod
    def mpat_version() -> Pointer[char]: ...

ffi: Final[FFI]
lib: Final[Lib]
