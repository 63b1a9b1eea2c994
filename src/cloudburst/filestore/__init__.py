"""The file store: payloads, inputs, environments and artifacts over HTTP.

``python -m cloudburst.filestore`` serves it, ``cloudburst.filestore.client`` talks to it.

The interface
-------------
======================================  ============================================================
``POST /upload``                        multipart field ``file``; the name is the part's file name
``PUT /files/<name>``                   raw body, or the same multipart field
``GET``, ``HEAD /files/<name>``         the bytes, with ``ETag`` (SHA-256), one range, ``If-None-Match``
``DELETE /files/<name>``                removes it
``GET /files/?prefix=``                 ``{"ok": true, "files": [{"name", "size", "modified_at"}]}``
``HEAD /uploads/<name>``                how far a resumable upload is
``GET /health``                         the only request that needs no token
======================================  ============================================================

Every request carries ``Authorization: Bearer <token>`` or, from old clients, ``?token=``.
Success is ``{"ok": true, "path": "/files/<name>", ...}``, failure ``{"ok": false, "error": "..."}``.
A file is replaced at once or not at all. If ``X-Content-SHA256`` is given, contents that differ are refused.

Resumable upload
----------------
An upload is named by the file's name and by the SHA-256 of its whole contents, so that two clients
with different contents never mix, and a file that was damaged on the way is never stored.

1. ``HEAD /uploads/<name>`` with ``X-Content-SHA256``. The answer's ``Upload-Offset`` is the number
   of bytes that are here already; 0 when nothing is.
2. ``PUT /files/<name>`` with ``X-Content-SHA256``, ``Content-Range: bytes a-b/total`` and those bytes,
   where ``a`` is the offset. When all have arrived they are verified, the file is replaced, and the
   answer is 200; before that it is 202 with ``Upload-Offset``. Any split into requests is fine, one
   request for all that is missing is best.
3. After a broken connection, or when this side was restarted, go on at 1: what arrived is kept.
   If ``a`` is not the offset, the answer is 409 with the right ``Upload-Offset``. If all bytes are
   here and only the answer was lost, ``Content-Range: bytes */total`` with no body completes it.

The latest request on an upload owns it: an older one that is still open, such as one whose client
vanished, ends with 409. Contents that do not match the SHA-256 are thrown away (400), as is an
upload that fills the disk (507), and one to which nothing was added for a day.
"""
