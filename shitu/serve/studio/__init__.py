"""The pages of the service: templates, styles and scripts, all of them out of this folder."""
