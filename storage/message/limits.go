package message

// Limits of what a scan keeps. What lies beyond a limit is not an error: it is left out of the summaries, and the bytes
// of the message are served all the same.
const (
	// MaxParts bounds the parts of a message, multiparts and enclosed messages included. The last one permitted is
	// opaque and extends to the end of the message.
	MaxParts = 10_000
	// MaxDepth bounds the nesting of parts; the message itself has depth 1. A multipart or message at this depth is a
	// leaf.
	MaxDepth = 100
	// MaxHeader bounds the bytes of one part's header that are looked at. Fields that start beyond it are not seen.
	MaxHeader = 512 << 10
	// MaxField bounds the bytes kept of one header field's value.
	MaxField = 128 << 10
	// MaxRetained bounds what one scan keeps of all headers together, in bytes of text plus [addressCost] an address
	// and [paramCost] a parameter. Headers of parts beyond it count as empty.
	MaxRetained = 2 << 20
	// MaxAddresses bounds the addresses of one envelope list, group marks included.
	MaxAddresses = 4096
	// MaxParams bounds the parameters of one Content-Type or Content-Disposition.
	MaxParams = 128
	// MaxLanguages bounds the tags of one Content-Language.
	MaxLanguages = 32
	// MaxBoundary bounds a multipart boundary in bytes (RFC 2046 permits 70). A longer one is compared by its first
	// MaxBoundary bytes.
	MaxBoundary = 256
	// PreviewRunes bounds the preview in code points (RFC 8970, 3.1).
	PreviewRunes = 200
	// PreviewSource bounds the bytes of a text part from which the preview is made.
	PreviewSource = 16 << 10
	// MaxHTMLToken bounds one tag or one run of text inside HTML, in bytes; text extraction ends at a larger one.
	MaxHTMLToken = 1 << 20
	// MaxDocument bounds a document whose text is taken, in octets as it is in the message without its transfer
	// encoding. A larger one has no text: the directory of a zip is at its end.
	MaxDocument = 16 << 20
	// MaxDocumentXML bounds the XML that the documents of one message are inflated to, in octets, all together. What
	// comes behind is not looked at.
	MaxDocumentXML = 8 << 20
	// MaxDocumentText bounds the text kept of one document, in octets.
	MaxDocumentText = 1 << 20
	// MaxDocumentEntries bounds the files inside a document. One with more has no text.
	MaxDocumentEntries = 10_000

	addressCost = 80
	paramCost   = 32
)
