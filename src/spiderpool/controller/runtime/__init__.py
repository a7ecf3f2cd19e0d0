"""What every reconciler needs: work queue, fenced writes, shared informers, ports."""
