"""An OPC UA server: its session, which is kept and opened again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

from asyncua import ua

from etl.sources.opcua.session import Access, Prepared, Session, open_session, prepare

_SESSION_LOST = {
    ua.StatusCodes.BadSessionIdInvalid,
    ua.StatusCodes.BadSessionClosed,
    ua.StatusCodes.BadSessionNotActivated,
    ua.StatusCodes.BadSecureChannelIdInvalid,
    ua.StatusCodes.BadSecureChannelClosed,
    ua.StatusCodes.BadSecureChannelTokenUnknown,
    ua.StatusCodes.BadTcpSecureChannelUnknown,
    ua.StatusCodes.BadConnectionClosed,
}
"""Answers of a server that has forgotten the session; after others it is kept."""


class Server:
    """Reads nodes of a server over one session. Its methods run in one event loop."""

    def __init__(self, access: Access, executor: Executor) -> None:
        self._access = access
        self._executor = executor
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._lookup: asyncio.Future[Prepared] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def read(self, parameters: ua.ReadParameters) -> Sequence[ua.DataValue]:
        """Read nodes; a session that has ended since it was last used, or that another poll ends, is opened again.

        The caller sets the deadline: a poll that is cancelled ends the session, since a server that does not answer may
        have been replaced behind the same address.

        Raises:
            what `session.open_session` and `Session.read` do.

        """
        is_kept = True
        while True:
            async with self._opening:
                is_kept = is_kept and self._session is not None and self._session.is_open
                session = await self._usable()
            try:
                return await session.read(parameters)
            except (ConnectionError, ua.UaStatusCodeError) as error:
                if isinstance(error, ua.UaStatusCodeError) and error.code not in _SESSION_LOST:
                    raise
                is_final = not is_kept and not session.is_ended
                self._end(session)
                if is_final:
                    raise
                is_kept = False
            except BaseException:
                self._end(session)
                raise

    async def close(self) -> None:
        """End the session."""
        if self._lookup:
            self._lookup.cancel()
        if self._session:
            self._end(self._session)
        if self._ending:
            await asyncio.wait(self._ending)

    async def _usable(self) -> Session:
        """The session, opened if there is none; the caller holds the lock."""
        if self._session and self._session.is_open:
            try:
                await self._session.renew_if_due()
                return self._session
            except BaseException as error:
                self._end(self._session)
                if not isinstance(error, (ConnectionError, ua.UaError)):
                    raise
        self._session = await open_session(self._access, await self._prepared())
        return self._session

    async def _prepared(self) -> Prepared:
        """The host's addresses and the files.

        A lookup may block its thread far beyond a deadline: the next poll waits for it instead of blocking another.
        """
        if self._lookup is None:
            loop = asyncio.get_running_loop()
            self._lookup = loop.run_in_executor(self._executor, prepare, self._access)
            self._lookup.add_done_callback(lambda lookup: lookup.cancelled() or lookup.exception())
        try:
            return await asyncio.shield(self._lookup)
        finally:
            if self._lookup.done():
                self._lookup = None

    def _end(self, session: Session) -> None:
        """End a session without waiting for the server."""
        if self._session is session:
            self._session = None
        session.is_ended = True
        task = asyncio.get_running_loop().create_task(session.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
