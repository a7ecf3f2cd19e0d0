"""
Several networks of one pod: NetworkAttachmentDefinitions, delegates, their results and status.

Pure.
"""
