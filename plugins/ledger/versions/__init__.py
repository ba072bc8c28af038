"""The revisions of the ledger's tables, in their order. One that was released is never changed."""
