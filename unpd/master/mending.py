"""Looks after what others find in the file system or the network: the services'
listeners, the control socket and the pid file.

:func:`look_after` is called by the shell's sweep, once a second. It repairs what it
can, logs that, and keeps :attr:`Runtime.faults <unpd.master.runtime.Runtime>` true.
Where a listener had to be opened anew, it asks the core for a reload with the running
configuration. The performers call :func:`mend_listeners` and :func:`look_at_readers`
after a reload.

Calls :mod:`unpd.master.listening`, :mod:`unpd.control.server` and
:mod:`unpd.kernel.pidfile`.
"""

import contextlib

from unpd.core import events as ev
from unpd.core.model import State
from unpd.errors import CannotCreateError, quoted
from unpd.loop import now
from unpd.master.listening.repair import Outcome, Repair
from unpd.master.listening.table import RENEWAL_PAUSE_S
from unpd.master.parents import make_parent
from unpd.master.runtime import Runtime
from unpd.names import Fault, MasterPhase


def look_after(runtime: Runtime, state: State) -> None:
    """Repair the sockets and the pid file. Ask for a reload if the children lack a new
    listener.
    """
    mend_listeners(runtime)
    _mend_control(runtime)
    look_at_readers(runtime)
    _mend_pid_file(runtime)
    if state.phase in (MasterPhase.RUNNING, MasterPhase.LAME) and runtime.candidate is None:
        _ask_for_reload(runtime)


def _ask_for_reload(runtime: Runtime) -> None:
    listeners = runtime.deployment.listeners
    waited = bool(listeners.waiting)
    if listeners.needs_reload(now()):
        runtime.events.append(ev.ListenersRenewed())
    elif not waited:
        for listener in listeners.waiting:
            runtime.log.event(
                "listener.waiting",
                service=listener.wanted.service,
                address=listener.text,
                pause_s=RENEWAL_PAUSE_S,
            )


def mend_listeners(runtime: Runtime) -> None:
    """Repair the listeners. While a reload is being proved none is opened anew: its
    candidate shares the present ones.
    """
    listeners = runtime.deployment.listeners
    for repair in listeners.mend(now(), may_renew=runtime.candidate is None):
        _log_repair(runtime, repair)
    listeners.store()
    standing = listeners.faults()
    for fault, key in list(runtime.faults):
        if fault is Fault.LISTENER_BROKEN and key not in standing:
            del runtime.faults[fault, key]
    for key, text in standing.items():
        runtime.faults[Fault.LISTENER_BROKEN, key] = text


def _log_repair(runtime: Runtime, repair: Repair) -> None:
    log, reason = runtime.log, repair.reason
    service, address = repair.service, repair.address
    match repair.outcome:
        case Outcome.MENDED:
            log.event("listener.mended", service=service, address=address, reason=reason)
        case Outcome.RENEWED:
            log.event("listener.renewed", service=service, address=address, reason=reason)
        case Outcome.BROKEN:
            log.event("listener.broken", service=service, address=address, reason=reason)


def _mend_control(runtime: Runtime) -> None:
    control = runtime.control
    if control is None:
        return
    lost = (Fault.CONTROL_LOST, control.path)
    repair = control.mend()
    if repair is None and lost not in runtime.faults:
        return
    if repair is None or repair.remade:
        runtime.faults.pop(lost, None)
        reason = repair.reason if repair else "its file was away for a while"
        runtime.log.event("control.renewed", path=control.path, reason=reason)
        return
    text = f"the control socket {control.path} cannot be reached: {repair.reason}"
    if runtime.faults.get(lost) != text:
        runtime.log.event("control.lost", path=control.path, reason=repair.reason)
    runtime.faults[lost] = text


def look_at_readers(runtime: Runtime, *, changed: bool = False) -> None:
    """Keep the fault true that the group in control.read_group cannot connect.
    ``changed``: a reload has named another group, or none.
    """
    control, readers = runtime.control, runtime.deployment.config.control.read_group
    if control is None:
        return
    group, reason = readers.name if readers else "", control.shut_out
    fault = (Fault.READERS_SHUT_OUT, control.path)
    if not reason:
        if runtime.faults.pop(fault, None) or changed:
            runtime.log.event("control.readers", group=group)
        return
    text = (
        f"the group {quoted(group)} (control.read_group) cannot connect to the control socket"
        f" {control.path}: {reason}"
        if readers
        else f"an earlier group can still connect to the control socket {control.path}: {reason}"
    )
    if runtime.faults.get(fault) != text:
        runtime.log.event("control.readers_shut_out", group=group, reason=reason)
    runtime.faults[fault] = text


def _mend_pid_file(runtime: Runtime) -> None:
    pid_file = runtime.pid_file
    if pid_file is None:
        return
    path = str(pid_file.path)
    lost = (Fault.PID_FILE_LOST, path)
    if not pid_file.path.parent.exists():
        # As the start makes it. If that fails, the repair says what is wrong.
        with contextlib.suppress(CannotCreateError):
            make_parent(pid_file.path)
    try:
        renewed = pid_file.mend()
    except OSError as error:
        reason = _why_no_pid_file(error)
        text = f"the pid file {path} is gone, and a second daemon could start: {reason}"
        if runtime.faults.get(lost) != text:
            runtime.log.event("pidfile.lost", path=path, reason=reason)
        runtime.faults[lost] = text
        return
    if runtime.faults.pop(lost, None) or renewed:
        runtime.log.event("pidfile.renewed", path=path)


def _why_no_pid_file(error: OSError) -> str:
    """Why the pid file cannot be made again, as the end of a sentence."""
    match error:
        case FileExistsError():
            return "another file took its place; move it away"
        case BlockingIOError():
            return "another daemon has locked it"
        case FileNotFoundError() | NotADirectoryError():
            return "the directory does not exist"
    return error.strerror or str(error)
