package androidx.activity.result.contract

class ActivityResultContracts {
    class CreateDocument(val mimeType: String)
}
