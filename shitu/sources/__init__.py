"""What people name as a source of pictures: web addresses, documents with pages, and pictures in memory."""
